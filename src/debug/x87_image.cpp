#include "debug/x87_image.h"

#include "base/bits.h"
#include "x86/fpu_words.h"

namespace doppel::debug {
namespace {

enum Control : unsigned { kFctrl, kFstat, kFtag, kFiseg, kFioff, kFoseg, kFooff, kFop };

unsigned top(const x86::FpuState& fpu) {
  return (fpu.fsw >> 11) & 7;
}

/// SDM vol. 1, 8.1.7: 0 valid, 1 zero, 2 special.
unsigned classify(const x86::FpuState::St& st) {
  const unsigned exponent = st.sign_exponent & 0x7FFF;
  if (exponent == 0 && st.significand == 0) return 1;
  const bool integer_bit = (st.significand >> 63) != 0;
  return exponent == 0x7FFF || !integer_bit ? 2 : 0;
}

std::uint32_t full_tag_word(const x86::FpuState& fpu) {
  std::uint32_t tags = 0;
  for (unsigned physical = 0; physical < 8; ++physical) {
    const bool empty = ((fpu.ftw >> physical) & 1) == 0;
    const unsigned tag = empty ? 3 : classify(fpu.st[(physical - top(fpu)) & 7]);
    tags |= tag << (2 * physical);
  }
  return tags;
}

std::uint8_t abridged_tag_word(std::uint32_t tags) {
  unsigned abridged = 0;
  for (unsigned physical = 0; physical < 8; ++physical) {
    if (((tags >> (2 * physical)) & 3) != 3) abridged |= 1U << physical;
  }
  return static_cast<std::uint8_t>(abridged);
}

void set_low_half(std::uint64_t& whole, std::uint32_t value) {
  whole = (whole & ~low_mask(32)) | value;
}
void set_high_half(std::uint64_t& whole, std::uint32_t value) {
  whole = (whole & low_mask(32)) | std::uint64_t{value} << 32;
}

}  // namespace

std::uint32_t x87_control(const x86::FpuState& fpu, unsigned index) {
  switch (index) {
    case kFctrl:
      return fpu.fcw;
    case kFstat:
      return fpu.fsw;
    case kFtag:
      return full_tag_word(fpu);
    case kFiseg:
      return static_cast<std::uint32_t>(fpu.fip >> 32);
    case kFioff:
      return static_cast<std::uint32_t>(fpu.fip);
    case kFoseg:
      return static_cast<std::uint32_t>(fpu.fdp >> 32);
    case kFooff:
      return static_cast<std::uint32_t>(fpu.fdp);
    default:
      return fpu.fop;
  }
}

void set_x87_control(x86::FpuState& fpu, unsigned index, std::uint32_t value) {
  switch (index) {
    case kFctrl:
      fpu.fcw = x86::x87_control(static_cast<std::uint16_t>(value));
      return;
    case kFstat:
      fpu.fsw = static_cast<std::uint16_t>(value);
      return;
    case kFtag:
      fpu.ftw = abridged_tag_word(value);
      return;
    case kFiseg:
      return set_high_half(fpu.fip, value);
    case kFioff:
      return set_low_half(fpu.fip, value);
    case kFoseg:
      return set_high_half(fpu.fdp, value);
    case kFooff:
      return set_low_half(fpu.fdp, value);
    default:
      fpu.fop = static_cast<std::uint16_t>(value & 0x7FF);
      return;
  }
}

}  // namespace doppel::debug
