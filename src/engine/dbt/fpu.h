#pragma once

#include "x86/cpu_state.h"

/// Moves x87 and MMX state between the guest's CpuState and the host's registers, where translated code keeps it.
/// MXCSR and the vector registers take no part.
namespace doppel::engine::dbt {

void load_x87(const x86::FpuState& state);
void save_x87(x86::FpuState& state);

}  // namespace doppel::engine::dbt
