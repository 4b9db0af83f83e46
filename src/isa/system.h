#pragma once

#include "isa/insn.h"
#include "x86/cpu.h"

namespace doppel::isa {

/// The semantics of one system or legacy instruction, written once for every engine.
///
/// On entry state.rip is the next instruction's address (Cpu::instruction_start the current one's); a control transfer
/// overwrites it. On return the instruction is complete. Throws x86::Fault before any change, as the manual orders its
/// checks. Registers, flags and all memory go through `cpu`. After it, an engine ends its block and looks at mode,
/// view, shadows and pending events again.
using SystemOp = void (*)(x86::Cpu& cpu, const Insn& insn);

/// The helper for a mnemonic, or null when the mnemonic is not of this class.
SystemOp system_op(ZydisMnemonic mnemonic);

/// System instructions after which a block may go on: they change neither what code means nor where it is, and make no
/// event deliverable.
bool is_quiet(ZydisMnemonic mnemonic);
/// System instructions that set up, save or load state of which the x87 registers may be part. All are quiet.
bool works_on_x87_state(ZydisMnemonic mnemonic);

/// The linear address of the memory operand, after segmentation: limit and type checks in legacy modes, canonical check
/// in 64-bit mode. Throws #GP or #SS. `size` in bytes.
x86::LinearAddress linear_address(x86::Cpu& cpu, const Insn& insn, std::uint64_t size, x86::Access access);
/// The effective address (offset) alone, for LEA and the like.
std::uint64_t effective_address(const x86::Cpu& cpu, const Insn& insn);

}  // namespace doppel::isa
