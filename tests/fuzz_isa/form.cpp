#include "fuzz_isa/form.h"

#include <array>
#include <bit>

namespace doppel::fuzz_isa {

namespace {

constexpr unsigned kModeAt = 11, kVexAt = 13, kLockAt = 14, kRepAt = 15, kRepneAt = 16, kFarAt = 17, kStringAt = 18,
                   kOperandsAt = 19, kOperandBits = 9, kKindBits = 4;
/// In bytes; its place in the table is what a Form holds of an operand's size.
constexpr std::array<std::uint16_t, 20> kSizes{0,  1,  2,   4,   8,  16, 32, 6,  10,  14,
                                               28, 94, 108, 512, 64, 24, 12, 20, 576, 0xFFFF};

std::uint64_t size_code(std::uint16_t size) {
  for (std::size_t i = 0; i < kSizes.size(); ++i)
    if (kSizes[i] == size) return i;
  return kSizes.size() - 1;
}

constexpr std::array kKindNames{"", "r", "rh", "sreg", "cr", "dr", "mm", "st", "xmm", "ymm", "m", "imm", "rel", "far"};
constexpr bool has_size(isa::OperandKind kind) {
  using isa::OperandKind;
  return kind == OperandKind::Gpr || kind == OperandKind::Memory || kind == OperandKind::Relative ||
         kind == OperandKind::FarPointer;
}

}  // namespace

Form form_of(const isa::Insn& insn, const isa::Encoding& encoding, Mode mode) {
  std::uint64_t key = insn.mnemonic | std::uint64_t(mode) << kModeAt | std::uint64_t{encoding.vex} << kVexAt |
                      std::uint64_t{insn.lock} << kLockAt | std::uint64_t{insn.rep} << kRepAt |
                      std::uint64_t{insn.repne} << kRepneAt | std::uint64_t{insn.far_branch} << kFarAt |
                      std::uint64_t{insn.string} << kStringAt;
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const isa::Operand& operand = insn.op[i];
    std::uint64_t size = has_size(operand.kind) ? size_code(operand.size) : 0;
    if (operand.kind == isa::OperandKind::Relative) size = size_code(insn.operand_size);
    const std::uint64_t code = static_cast<std::uint64_t>(operand.kind) | size << kKindBits;
    key |= code << (kOperandsAt + kOperandBits * i);
  }
  return {key};
}

std::string to_string(Form form) {
  const auto flag = [&form](unsigned at) { return (form.key >> at & 1) != 0; };
  constexpr std::array kModeNames{"64-bit", "32-bit", "16-bit"};
  std::string text = ZydisMnemonicGetString(static_cast<ZydisMnemonic>(form.mnemonic()));
  text += std::string("|") + kModeNames[static_cast<std::size_t>(form.mode())];
  text += flag(kVexAt) ? "|VEX" : "|legacy";
  text += flag(kLockAt) ? " lock" : flag(kRepAt) ? " rep" : flag(kRepneAt) ? " repne" : "";
  text += flag(kFarAt) ? " far" : flag(kStringAt) ? " string" : "";
  text += "|";
  for (unsigned i = 0; i < 5; ++i) {
    const std::uint64_t code = form.key >> (kOperandsAt + kOperandBits * i) & 0x1FF;
    if (code == 0) break;
    if (i != 0) text += ", ";
    text += kKindNames[code & 0xF];
    const std::uint16_t size = kSizes[code >> kKindBits];
    if (size != 0) text += size == 0xFFFF ? std::string("?") : std::to_string(size * 8);
  }
  return text;
}

}  // namespace doppel::fuzz_isa
