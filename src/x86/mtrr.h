#pragma once

#include <cstdint>

#include "x86/cpu.h"

/// Memory type range registers and PAT: checked and kept, without effect on our memory; SDM vol. 3, 11.11 and 11.12.
namespace doppel::x86 {

bool is_mtrr(std::uint32_t msr);
/// For registers that is_mtrr() names. Writes throw #GP(0) for values that the manual forbids.
std::uint64_t read_mtrr(const CpuState& state, std::uint32_t msr);
void write_mtrr(Cpu& cpu, std::uint32_t msr, std::uint64_t value);

/// #GP(0) for a memory type that PAT does not know.
void write_pat(CpuState& state, std::uint64_t value);

}  // namespace doppel::x86
