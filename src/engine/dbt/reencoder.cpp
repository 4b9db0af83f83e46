#include "engine/dbt/reencoder.h"

#include <algorithm>

namespace doppel::engine::dbt {

namespace {

using isa::Encoding;
using isa::Operand;
using isa::OperandField;
using isa::OperandKind;

class Writer {
 public:
  Writer(const SourceInsn& source, const HostOperands& operands, std::span<std::byte, kMaxReencoded> out)
      : source_(source), encoding_(source.encoding), operands_(operands), out_(out) {
    opcode_ = encoding_.opcode;
    has_modrm_ = encoding_.has_modrm;
    modrm_ = encoding_.modrm;
  }

  std::size_t write() {
    rewrite_old_forms();
    place_operands();
    if (encoding_.vex) {
      prefixes_vex();
    } else if (!prefixes_legacy()) {
      return 0;
    }
    put(opcode_);
    if (has_modrm_) modrm_and_memory();
    immediate();
    return length_;
  }

 private:
  void put(unsigned value) { out_[length_++] = static_cast<std::byte>(value); }

  /// Encodings that 64-bit mode does not have.
  void rewrite_old_forms() {
    if (encoding_.vex || encoding_.map != Encoding::Map::Default) return;
    if (source_.insn.code_size != isa::CodeSize::Bits64) {
      if (opcode_ >= 0x40 && opcode_ <= 0x4F) {  // INC and DEC r
        modrm_ = static_cast<std::uint8_t>(opcode_ >= 0x48 ? 0xC8 : 0xC0);
        opcode_ = 0xFF;
        has_modrm_ = true;
        opcode_register_in_rm_ = true;
      } else if (opcode_ == 0x82) {
        opcode_ = 0x80;
      }
    }
    if (opcode_ >= 0xA0 && opcode_ <= 0xA3) {  // MOV between the accumulator and an absolute address
      constexpr std::array<std::uint8_t, 4> kWithModrm{0x8A, 0x8B, 0x88, 0x89};
      opcode_ = kWithModrm[opcode_ - 0xA0U];
      modrm_ = 0;
      has_modrm_ = true;
      drop_immediate_ = true;
    }
  }

  HostReg host_number(unsigned i) const {
    const Operand& operand = source_.insn.op[i];
    switch (operand.kind) {
      case OperandKind::Gpr:
        return operands_.reg[i];
      case OperandKind::GprHigh:
        return static_cast<HostReg>(operands_.reg[i] + 4);
      default:
        return operand.reg;
    }
  }

  void place_operands() {
    const isa::Insn& insn = source_.insn;
    for (unsigned i = 0; i < insn.operand_count; ++i) {
      const Operand& operand = insn.op[i];
      if (operand.kind == OperandKind::GprHigh) high_byte_ = true;
      if (operand.kind == OperandKind::Memory || operand.kind == OperandKind::Immediate) continue;
      const HostReg number = host_number(i);
      const bool byte = operand.kind == OperandKind::Gpr && operand.size == 1;
      switch (operand.field) {
        case OperandField::ModrmReg:
          modrm_ = static_cast<std::uint8_t>((modrm_ & 0xC7) | (number & 7) << 3);
          r_ = number >= 8;
          if (byte && number >= 4) needs_rex_ = true;
          break;
        case OperandField::ModrmRm:
          if (operands_.rm_in_memory) break;
          modrm_ = static_cast<std::uint8_t>((modrm_ & 0xF8) | (number & 7));
          b_ = number >= 8;
          if (byte && number >= 4) needs_rex_ = true;
          break;
        case OperandField::Opcode:
          b_ = number >= 8;
          if (byte && number >= 4) needs_rex_ = true;
          if (opcode_register_in_rm_) {
            modrm_ = static_cast<std::uint8_t>((modrm_ & 0xF8) | (number & 7));
          } else {
            opcode_ = static_cast<std::uint8_t>((opcode_ & 0xF8) | (number & 7));
          }
          break;
        case OperandField::Vvvv:
          vvvv_ = number;
          break;
        default:
          break;
      }
    }
    if (in_memory()) {
      x_ = operands_.memory.index != kNoHostReg && operands_.memory.index >= 8;
      b_ = operands_.memory.base >= 8;
    }
  }

  bool in_memory() const { return operands_.memory.base != kNoHostReg; }

  bool prefixes_legacy() {
    if (source_.insn.lock) put(0xF0);
    if (encoding_.operand_size) put(0x66);
    // Without TZCNT and LZCNT, F3 before BSF and BSR means nothing; the host may have them.
    const bool bit_scan = source_.insn.mnemonic == ZYDIS_MNEMONIC_BSF || source_.insn.mnemonic == ZYDIS_MNEMONIC_BSR;
    if (encoding_.repeat != 0 && !bit_scan && !source_.insn.lock) put(encoding_.repeat);
    const unsigned bits = (encoding_.w ? 8U : 0) | (r_ ? 4U : 0) | (x_ ? 2U : 0) | (b_ ? 1U : 0);
    if (bits != 0 || needs_rex_) {
      if (high_byte_) return false;
      put(0x40 | bits);
    }
    if (encoding_.map != Encoding::Map::Default) put(0x0F);
    if (encoding_.map == Encoding::Map::Map0F38) put(0x38);
    if (encoding_.map == Encoding::Map::Map0F3A) put(0x3A);
    return true;
  }

  /// VEX.W, where it does not ask for 64-bit general registers that other modes do not have (SDM vol. 2, 2.3.4).
  bool wide() const {
    if (!encoding_.w || source_.insn.code_size == isa::CodeSize::Bits64) return encoding_.w;
    switch (source_.insn.mnemonic) {
      case ZYDIS_MNEMONIC_VMOVD:
      case ZYDIS_MNEMONIC_VPINSRD:
      case ZYDIS_MNEMONIC_VPEXTRD:
      case ZYDIS_MNEMONIC_VCVTSI2SD:
      case ZYDIS_MNEMONIC_VCVTSI2SS:
      case ZYDIS_MNEMONIC_VPCMPESTRI:
      case ZYDIS_MNEMONIC_VPCMPESTRM:
        return false;
      default:
        break;
    }
    const auto* end = source_.insn.op.begin() + source_.insn.operand_count;
    return std::none_of(source_.insn.op.begin(), end,
                        [](const Operand& operand) { return operand.kind == OperandKind::Gpr; });
  }

  void prefixes_vex() {
    const unsigned map = static_cast<unsigned>(encoding_.map);  // 1: 0F, 2: 0F38, 3: 0F3A, as VEX.mmmmm
    const unsigned pp = encoding_.operand_size ? 1 : encoding_.repeat == 0xF3 ? 2 : encoding_.repeat == 0xF2 ? 3 : 0;
    put(0xC4);
    put((r_ ? 0U : 0x80) | (x_ ? 0U : 0x40) | (b_ ? 0U : 0x20) | map);
    put((wide() ? 0x80U : 0) | (~unsigned{vvvv_} & 0xF) << 3 | (encoding_.l ? 4U : 0) | pp);
  }

  void modrm_and_memory() {
    if (!in_memory()) return put(modrm_);
    const HostMemory& memory = operands_.memory;
    const unsigned base = memory.base & 7U;
    // Without a displacement, rbp and r13 as a base mean something else.
    const bool none = memory.displacement == 0 && base != 5;
    const bool small = memory.displacement >= -128 && memory.displacement <= 127;
    const unsigned mod = none ? 0 : small ? 0x40 : 0x80;
    const bool sib = memory.index != kNoHostReg || base == kHostRsp;
    put(mod | (modrm_ & 0x38U) | (sib ? 4 : base));
    if (sib) put((memory.index == kNoHostReg ? 4U : memory.index & 7U) << 3 | base);
    if (none) return;
    const auto bits = static_cast<std::uint32_t>(memory.displacement);
    for (unsigned i = 0; i < (small ? 1 : 4); ++i) put(bits >> (8 * i) & 0xFF);
  }

  void immediate() {
    if (encoding_.immediate_at == 0 || drop_immediate_) return;
    for (unsigned i = encoding_.immediate_at; i < source_.insn.length; ++i) out_[length_++] = source_.bytes[i];
    // A register in the immediate's upper half has no bit 3 outside 64-bit mode, whatever is in its place.
    const bool in_immediate = std::any_of(source_.insn.op.begin(), source_.insn.op.begin() + source_.insn.operand_count,
                                          [](const Operand& operand) { return operand.field == OperandField::Is4; });
    if (in_immediate && source_.insn.code_size != isa::CodeSize::Bits64) out_[length_ - 1] &= std::byte{0x7F};
  }

  const SourceInsn& source_;
  const Encoding& encoding_;
  const HostOperands& operands_;
  std::span<std::byte, kMaxReencoded> out_;
  std::size_t length_ = 0;
  std::uint8_t opcode_ = 0, modrm_ = 0, vvvv_ = 0;
  bool has_modrm_ = false, r_ = false, x_ = false, b_ = false, needs_rex_ = false, high_byte_ = false;
  bool opcode_register_in_rm_ = false, drop_immediate_ = false;
};

}  // namespace

std::size_t reencode(const SourceInsn& source, const HostOperands& operands, std::span<std::byte, kMaxReencoded> out) {
  return Writer(source, operands, out).write();
}

}  // namespace doppel::engine::dbt
