#pragma once

#include "isa/insn.h"
#include "x86/cpu_state.h"

/// MMX registers are the significands of the x87 stack's; SDM vol. 1, 9.5.
namespace doppel::engine::interp {

/// What every MMX instruction does to the x87 state: TOP becomes 0, all registers are in use.
void enter_mmx(x86::FpuState& fpu);
/// A written MMX register looks like a NaN to the x87 unit.
void mark_written(x86::FpuState& fpu, const isa::Insn& insn);

}  // namespace doppel::engine::interp
