#pragma once

#include <array>
#include <cstdint>

#include "x86/cpu_state.h"

/// The x87 control registers as GDB numbers them, in the form of the 32-bit FSTENV image (SDM vol. 1, 8.1.10).
namespace doppel::debug {

inline constexpr std::array kX87ControlNames = {"fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"};

/// `index` is a place in kX87ControlNames.
std::uint32_t x87_control(const x86::FpuState& fpu, unsigned index);
/// Reserved bits are dropped.
void set_x87_control(x86::FpuState& fpu, unsigned index, std::uint32_t value);

}  // namespace doppel::debug
