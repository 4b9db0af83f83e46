#include <algorithm>
#include <array>
#include <cstddef>

#include "base/bits.h"
#include "x86/fpu_words.h"
#include "x86/xstate.h"

/// FNSTENV, FLDENV, FNSAVE and FRSTOR; SDM vol. 1, 8.1.10.
namespace doppel::x86 {

namespace {

constexpr std::size_t kStBytes = 10;
using Image = std::array<std::byte, 28 + 8 * kStBytes>;

/// The tag word as the instructions store it, two bits for each physical register.
std::uint16_t full_tag_word(const FpuState& fpu) {
  constexpr unsigned kValid = 0, kZero = 1, kSpecial = 2, kEmpty = 3;
  unsigned tags = 0;
  for (unsigned i = 0; i < 8; ++i) {
    const unsigned physical = (x87_top(fpu.fsw) + i) & 7;
    const FpuState::St& st = fpu.st[i];
    const unsigned exponent = st.sign_exponent & 0x7FFF;
    unsigned tag = kSpecial;
    if ((fpu.ftw >> physical & 1) == 0) {
      tag = kEmpty;
    } else if (exponent == 0 && st.significand == 0) {
      tag = kZero;
    } else if (exponent != 0 && exponent != 0x7FFF && (st.significand >> 63) != 0) {
      tag = kValid;
    }
    tags |= tag << (2 * physical);
  }
  return static_cast<std::uint16_t>(tags);
}

std::uint8_t abridged_tag_word(std::uint16_t tags) {
  unsigned abridged = 0;
  for (unsigned i = 0; i < 8; ++i) {
    if ((tags >> (2 * i) & 3) != 3) abridged |= 1U << i;
  }
  return static_cast<std::uint8_t>(abridged);
}

/// Whether pointers are stored as selector and offset (figures 8-9 and 8-11) or as real-mode addresses (8-10, 8-12).
bool protected_format(const CpuState& state) {
  return state.protected_mode() && !state.virtual_8086();
}

/// The seven words of the environment, in order, each of which takes 16 or 32 bits in memory.
using Environment = std::array<std::uint32_t, 7>;

Environment environment_of(const CpuState& state, unsigned operand_size) {
  constexpr std::uint32_t kUpper = 0xFFFF'0000;  // reserved halves read as ones
  const FpuState& fpu = state.fpu;
  const auto fip = static_cast<std::uint32_t>(fpu.fip), fdp = static_cast<std::uint32_t>(fpu.fdp);
  Environment words{kUpper | fpu.fcw, kUpper | fpu.fsw, kUpper | full_tag_word(fpu)};
  if (protected_format(state)) {
    // FCS and FDS are deprecated and stored as 0.
    words[3] = fip;
    words[4] = std::uint32_t{fpu.fop} << 16;
    words[5] = fdp;
    words[6] = kUpper;
  } else {
    const std::uint32_t upper_mask = operand_size == 2 ? 0xF000 : 0x0FFF'F000;
    words[3] = kUpper | (fip & 0xFFFF);
    words[4] = ((fip >> 16) << 12 & upper_mask) | fpu.fop;
    words[5] = kUpper | (fdp & 0xFFFF);
    words[6] = (fdp >> 16) << 12 & upper_mask;
  }
  return words;
}

void put_environment(const CpuState& state, unsigned operand_size, std::byte* image) {
  const Environment words = environment_of(state, operand_size);
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (operand_size == 2) {
      store_le(image + 2 * i, static_cast<std::uint16_t>(words[i]));
    } else {
      store_le(image + 4 * i, words[i]);
    }
  }
}

void take_environment(CpuState& state, unsigned operand_size, const std::byte* image) {
  Environment words{};
  for (std::size_t i = 0; i < words.size(); ++i) {
    words[i] = operand_size == 2 ? load_le<std::uint16_t>(image + 2 * i) : load_le<std::uint32_t>(image + 4 * i);
  }
  FpuState& fpu = state.fpu;
  fpu.fcw = x87_control(static_cast<std::uint16_t>(words[0]));
  set_x87_status(fpu, static_cast<std::uint16_t>(words[1]));
  fpu.ftw = abridged_tag_word(static_cast<std::uint16_t>(words[2]));
  if (protected_format(state)) {
    fpu.fip = words[3];
    if (operand_size == 4) fpu.fop = words[4] >> 16 & 0x7FF;
    fpu.fdp = words[5];
  } else {
    fpu.fip = (words[3] & 0xFFFF) | (words[4] & 0x0FFF'F000) << 4;
    fpu.fop = words[4] & 0x7FF;
    fpu.fdp = (words[5] & 0xFFFF) | (words[6] & 0x0FFF'F000) << 4;
  }
  update_x87_summary(fpu);
}

}  // namespace

void fnstenv(Cpu& cpu, LinearAddress address, unsigned operand_size) {
  constexpr std::uint16_t kAllMasked = 0x3F;
  Image image{};
  put_environment(cpu.state, operand_size, image.data());
  cpu.mmu.write_bytes(address, {image.data(), fpu_environment_size(operand_size)}, cpu.mmu.data_view());
  cpu.state.fpu.fcw |= kAllMasked;
  update_x87_summary(cpu.state.fpu);
}

void fldenv(Cpu& cpu, LinearAddress address, unsigned operand_size) {
  Image image{};
  cpu.mmu.read_bytes(address, {image.data(), fpu_environment_size(operand_size)}, cpu.mmu.data_view());
  take_environment(cpu.state, operand_size, image.data());
}

void fnsave(Cpu& cpu, LinearAddress address, unsigned operand_size) {
  Image image{};
  put_environment(cpu.state, operand_size, image.data());
  std::byte* st = image.data() + fpu_environment_size(operand_size);
  for (const FpuState::St& value : cpu.state.fpu.st) {
    store_le(st, value.significand);
    store_le(st + 8, value.sign_exponent);
    st += kStBytes;
  }
  cpu.mmu.write_bytes(address, {image.data(), fpu_image_size(operand_size)}, cpu.mmu.data_view());
  fninit(cpu.state);
}

void frstor(Cpu& cpu, LinearAddress address, unsigned operand_size) {
  Image image{};
  cpu.mmu.read_bytes(address, {image.data(), fpu_image_size(operand_size)}, cpu.mmu.data_view());
  take_environment(cpu.state, operand_size, image.data());
  const std::byte* st = image.data() + fpu_environment_size(operand_size);
  for (FpuState::St& value : cpu.state.fpu.st) {
    value.significand = load_le<std::uint64_t>(st);
    value.sign_exponent = load_le<std::uint16_t>(st + 8);
    st += kStBytes;
  }
}

void fninit(CpuState& state) {
  set_x87_status(state.fpu, 0);
  state.fpu.fcw = 0x37F;
  state.fpu.ftw = 0;
  state.fpu.fop = 0;
  state.fpu.fip = 0;
  state.fpu.fdp = 0;
}

}  // namespace doppel::x86
