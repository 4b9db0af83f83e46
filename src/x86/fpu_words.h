#pragma once

#include <algorithm>
#include <cstdint>

#include "x86/cpu_state.h"

/// The x87 status word and what hangs on it; SDM vol. 1, 8.1.3.
namespace doppel::x86 {

inline unsigned x87_top(std::uint16_t fsw) {
  return fsw >> 11 & 7;
}

/// What a load of the control word keeps: bit 6 reads as one, the other reserved bits as zero.
inline std::uint16_t x87_control(std::uint16_t fcw) {
  return static_cast<std::uint16_t>((fcw & 0x1F3F) | 0x40);
}

/// ES and B follow from flags and masks.
inline void update_x87_summary(FpuState& fpu) {
  constexpr std::uint16_t kExceptions = 0x3F, kSummaryAndBusy = 0x8080;
  const bool pending = (fpu.fsw & ~fpu.fcw & kExceptions) != 0;
  fpu.fsw = static_cast<std::uint16_t>(pending ? fpu.fsw | kSummaryAndBusy : fpu.fsw & ~kSummaryAndBusy);
}

/// Loads a status word whose TOP may differ: the registers stay where they are, so ST(i) is another one.
inline void set_x87_status(FpuState& fpu, std::uint16_t fsw) {
  const unsigned shift = (x87_top(fsw) - x87_top(fpu.fsw)) & 7;
  std::rotate(fpu.st.begin(), fpu.st.begin() + shift, fpu.st.end());
  fpu.fsw = fsw;
}

}  // namespace doppel::x86
