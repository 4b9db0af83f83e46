#pragma once

#include <cstdint>

#include "x86/cpu.h"

namespace doppel::x86 {

/// RDMSR and WRMSR; SDM vol. 4. Throw #GP(0) for registers that do not exist and values that may not be written.
/// Privilege has been checked.
std::uint64_t read_msr(Cpu& cpu, std::uint32_t msr);
void write_msr(Cpu& cpu, std::uint32_t msr, std::uint64_t value);

}  // namespace doppel::x86
