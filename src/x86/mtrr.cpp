#include "x86/mtrr.h"

#include "base/bits.h"
#include "x86/msr_numbers.h"

namespace doppel::x86 {

namespace {

constexpr std::uint64_t kVariableRanges = 8, kFixedSupported = bit(8), kWriteCombining = bit(10);
constexpr std::uint64_t kMtrrTypes = bit(0) | bit(1) | bit(4) | bit(5) | bit(6);  // UC, WC, WT, WP, WB
constexpr std::uint64_t kPatTypes = kMtrrTypes | bit(7);                          // and UC-

bool is_type(std::uint64_t value, std::uint64_t types) {
  return value < 64 && (types >> value & 1) != 0;
}

void check_eight_types(std::uint64_t value, std::uint64_t types) {
  for (unsigned i = 0; i < 8; ++i) {
    if (!is_type(value >> (8 * i) & 0xFF, types)) raise_gp();
  }
}

bool is_variable(std::uint32_t msr) {
  return msr >= msr::kMtrrPhysBase0 && msr < msr::kMtrrPhysBase0 + 2 * kVariableRanges;
}

/// The index in CpuState::mtrr_fixed, or -1.
int fixed_index(std::uint32_t msr) {
  if (msr == msr::kMtrrFix64k) return 0;
  if (msr == msr::kMtrrFix16k || msr == msr::kMtrrFix16k + 1) return static_cast<int>(1 + msr - msr::kMtrrFix16k);
  if (msr >= msr::kMtrrFix4k && msr < msr::kMtrrFix4k + 8) return static_cast<int>(3 + msr - msr::kMtrrFix4k);
  return -1;
}

}  // namespace

bool is_mtrr(std::uint32_t msr) {
  return msr == msr::kMtrrCap || msr == msr::kMtrrDefType || is_variable(msr) || fixed_index(msr) >= 0;
}

std::uint64_t read_mtrr(const CpuState& state, std::uint32_t msr) {
  if (msr == msr::kMtrrCap) return kVariableRanges | kFixedSupported | kWriteCombining;
  if (msr == msr::kMtrrDefType) return state.mtrr_def_type;
  if (is_variable(msr)) return state.mtrr_variable[msr - msr::kMtrrPhysBase0];
  return state.mtrr_fixed[static_cast<std::size_t>(fixed_index(msr))];
}

void write_mtrr(Cpu& cpu, std::uint32_t msr, std::uint64_t value) {
  CpuState& state = cpu.state;
  if (msr == msr::kMtrrCap) raise_gp();
  if (msr == msr::kMtrrDefType) {
    constexpr std::uint64_t kFixedEnable = bit(10), kEnable = bit(11);
    if ((value & ~(kFixedEnable | kEnable | 0xFF)) != 0 || !is_type(value & 0xFF, kMtrrTypes)) raise_gp();
    state.mtrr_def_type = value;
  } else if (is_variable(msr)) {
    const bool is_mask = (msr & 1) != 0;
    const std::uint64_t address = low_mask(cpu.ports.cpuid.physical_address_bits()) & ~low_mask(12);
    constexpr std::uint64_t kValid = bit(11);
    if ((value & ~(address | (is_mask ? kValid : 0xFF))) != 0) raise_gp();
    if (!is_mask && !is_type(value & 0xFF, kMtrrTypes)) raise_gp();
    state.mtrr_variable[msr - msr::kMtrrPhysBase0] = value;
  } else {
    check_eight_types(value, kMtrrTypes);
    state.mtrr_fixed[static_cast<std::size_t>(fixed_index(msr))] = value;
  }
}

void write_pat(CpuState& state, std::uint64_t value) {
  check_eight_types(value, kPatTypes);
  state.pat = value;
}

}  // namespace doppel::x86
