#include "isa/canonical.h"

#include <algorithm>

#include "isa/insn_queries.h"

namespace doppel::isa {

namespace {

constexpr std::uint8_t kFirstGpr = 8;  // r8
constexpr std::uint8_t kFirstXmm = 1;  // xmm0 is for opcodes that imply it
constexpr std::uint64_t kStatus = x86::rflags::kStatus;

/// What Zydis 4.0 says nothing about: these set ZF and CF and clear the rest.
bool clears_other_flags(ZydisMnemonic mnemonic) {
  return mnemonic == ZYDIS_MNEMONIC_VPTEST || mnemonic == ZYDIS_MNEMONIC_VTESTPS || mnemonic == ZYDIS_MNEMONIC_VTESTPD;
}

bool is_shift(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
      return true;
    default:
      return false;
  }
}

/// Instructions that leave bits of their destination as they were although Zydis calls it only written: BSF and BSR of
/// zero, the unselected half of scalar and half-register moves.
bool keeps_destination(const Insn& insn) {
  return insn.mnemonic == ZYDIS_MNEMONIC_BSF || insn.mnemonic == ZYDIS_MNEMONIC_BSR || insn.unit == Unit::Sse ||
         insn.unit == Unit::Mmx;
}

/// Conversions between MMX and XMM registers, for which Zydis has no exception class.
bool is_mmx_conversion(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_CVTPI2PS:
    case ZYDIS_MNEMONIC_CVTPI2PD:
    case ZYDIS_MNEMONIC_CVTPS2PI:
    case ZYDIS_MNEMONIC_CVTTPS2PI:
    case ZYDIS_MNEMONIC_CVTPD2PI:
    case ZYDIS_MNEMONIC_CVTTPD2PI:
      return true;
    default:
      return false;
  }
}

/// Immediates that may as well come from a register: the variety of generated code then does not grow with them.
bool takes_register_for_immediate(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_TEST:
      return true;
    default:
      return false;
  }
}

ZydisRegister gpr(unsigned number, unsigned size) {
  switch (size) {
    case 1:
      return ZydisRegisterEncode(ZYDIS_REGCLASS_GPR8, static_cast<ZyanU8>(number < 4 ? number : number + 4));
    case 2:
      return ZydisRegisterEncode(ZYDIS_REGCLASS_GPR16, static_cast<ZyanU8>(number));
    case 4:
      return ZydisRegisterEncode(ZYDIS_REGCLASS_GPR32, static_cast<ZyanU8>(number));
    default:
      return ZydisRegisterEncode(ZYDIS_REGCLASS_GPR64, static_cast<ZyanU8>(number));
  }
}

class Builder {
 public:
  Builder(const Insn& insn, Canonical& canonical) : insn_(insn), out_(canonical) {}

  bool build() {
    request_.machine_mode = ZYDIS_MACHINE_MODE_LONG_64;
    request_.mnemonic = insn_.mnemonic;
    request_.allowed_encodings =
        static_cast<ZydisEncodableEncoding>(ZYDIS_ENCODABLE_ENCODING_LEGACY | ZYDIS_ENCODABLE_ENCODING_VEX);
    if (insn_.lock) request_.prefixes |= ZYDIS_ATTRIB_HAS_LOCK;
    if (depends_on_operand_size(insn_.mnemonic)) {
      request_.operand_size_hint = insn_.operand_size == 8 ? ZYDIS_OPERAND_SIZE_HINT_64 : ZYDIS_OPERAND_SIZE_HINT_32;
    }
    if (insn_.operand_count > out_.slot.size()) return false;
    // IMUL r, r/m, imm is IMUL r, r/m with the immediate as what the destination holds before.
    const bool imul3 = insn_.mnemonic == ZYDIS_MNEMONIC_IMUL && insn_.operand_count == 3;
    request_.operand_count = imul3 ? 2 : insn_.operand_count;
    for (unsigned i = 0; i < request_.operand_count; ++i) {
      if (!operand(i)) return false;
    }
    if (imul3) {
      out_.slot[0].source = OperandSource::Immediate;
      out_.slot[0].low_word = insn_.op[0].size == 2;
      out_.slot[0].read = true;
    }
    ZyanUSize length = out_.bytes.size();
    if (!ZYAN_SUCCESS(ZydisEncoderEncodeInstruction(&request_, out_.bytes.data(), &length))) return false;
    out_.length = static_cast<std::uint8_t>(length);
    return derive();
  }

 private:
  bool operand(unsigned i) {
    const Operand& operand = insn_.op[i];
    ZydisEncoderOperand& encoded = request_.operands[i];
    Canonical::Slot& slot = out_.slot[i];
    slot.kind = operand.kind;
    slot.read = operand.read || (operand.written && keeps_destination(insn_));
    slot.written = operand.written;
    encoded.type = ZYDIS_OPERAND_TYPE_REGISTER;
    switch (operand.kind) {
      case OperandKind::Gpr:
        if ((is_shift(insn_.mnemonic) && i > 0 && operand.size == 1) || insn_.unit == Unit::X87) {
          // CL of a shift, AX of FNSTSW.
          encoded.reg.value = gpr(operand.reg, operand.size);
          return true;
        }
        [[fallthrough]];
      case OperandKind::GprHigh:
        slot.source = OperandSource::Register;
        slot.host = next_gpr_++;
        encoded.reg.value = gpr(slot.host, operand.size);
        return slot.host < kFirstGpr + 3;
      case OperandKind::Mmx:
        slot.source = OperandSource::Register;
        slot.host = static_cast<std::uint8_t>(i);
        encoded.reg.value = ZydisRegisterEncode(ZYDIS_REGCLASS_MMX, slot.host);
        return true;
      case OperandKind::X87:
        encoded.reg.value = ZydisRegisterEncode(ZYDIS_REGCLASS_X87, operand.reg);
        return true;
      case OperandKind::Xmm:
      case OperandKind::Ymm:
        return vector(i);
      case OperandKind::Memory:
        memory(operand, encoded);
        return true;
      case OperandKind::Immediate:
        immediate(i);
        return true;
      default:
        return false;
    }
  }

  bool vector(unsigned i) {
    const bool legacy = insn_.unit != Unit::Avx;
    const bool implied = legacy && i == 2 && insn_.op[i].kind == OperandKind::Xmm;  // BLENDV, SHA256RNDS2
    Canonical::Slot& slot = out_.slot[i];
    slot.host = implied ? 0 : static_cast<std::uint8_t>(kFirstXmm + i);
    if (!implied) slot.source = OperandSource::Register;
    request_.operands[i].reg.value =
        ZydisRegisterEncode(insn_.op[i].kind == OperandKind::Xmm ? ZYDIS_REGCLASS_XMM : ZYDIS_REGCLASS_YMM, slot.host);
    request_.operands[i].reg.is4 = i == 3 ? ZYAN_TRUE : ZYAN_FALSE;
    return true;
  }

  void memory(const Operand& operand, ZydisEncoderOperand& encoded) {
    out_.has_memory = true;
    out_.memory_read = operand.read;
    out_.memory_written = operand.written;
    out_.memory_size = operand.size;
    encoded.type = ZYDIS_OPERAND_TYPE_MEMORY;
    encoded.mem.base = ZYDIS_REGISTER_R11;
    // LEA's operand is as wide as an address: here that is the host's, whatever the guest's was.
    encoded.mem.size = insn_.mnemonic == ZYDIS_MNEMONIC_LEA ? 8 : operand.size;
  }

  void immediate(unsigned i) {
    if (!takes_register_for_immediate(insn_.mnemonic)) {
      request_.operands[i].type = ZYDIS_OPERAND_TYPE_IMMEDIATE;
      request_.operands[i].imm.u = insn_.imm[insn_.op[i].reg];
      return;
    }
    Canonical::Slot& slot = out_.slot[i];
    slot.kind = OperandKind::Gpr;
    slot.source = OperandSource::Immediate;
    slot.host = next_gpr_++;
    slot.read = true;
    request_.operands[i].reg.value = gpr(slot.host, insn_.op[0].size);
  }

  /// What else the instruction does, as Zydis reads the bytes that the host will run.
  bool derive() {
    ZydisDecoder decoder;
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisDecodedInstruction instruction;
    std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands;
    if (!ZYAN_SUCCESS(
            ZydisDecoderDecodeFull(&decoder, out_.bytes.data(), out_.length, &instruction, operands.data())) ||
        instruction.mnemonic != insn_.mnemonic)
      return false;
    for (unsigned i = 0; i < instruction.operand_count; ++i) {
      if (operands[i].visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT && !implied(operands[i])) return false;
    }
    flags(instruction);
    out_.unit = insn_.unit;
    out_.address_only = insn_.mnemonic == ZYDIS_MNEMONIC_LEA;
    out_.bit_string = is_bit_string(insn_);
    out_.uses_mxcsr = uses_mxcsr(instruction.meta.exception_class) || is_mmx_conversion(insn_.mnemonic);
    out_.may_fault = out_.uses_mxcsr || insn_.unit == Unit::X87 || insn_.mnemonic == ZYDIS_MNEMONIC_DIV ||
                     insn_.mnemonic == ZYDIS_MNEMONIC_IDIV || (out_.has_memory && out_.memory_size >= 16);
    return true;
  }

  bool implied(const ZydisDecodedOperand& operand) {
    if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER) return operand.type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    const bool read = (operand.actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0;
    const bool written = (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
    const ZydisRegister widest = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, operand.reg.value);
    switch (ZydisRegisterGetClass(operand.reg.value)) {
      case ZYDIS_REGCLASS_GPR8:
      case ZYDIS_REGCLASS_GPR16:
      case ZYDIS_REGCLASS_GPR32:
      case ZYDIS_REGCLASS_GPR64: {
        const auto number = static_cast<std::uint8_t>(ZydisRegisterGetId(widest));
        if (number > x86::kRbx) return false;
        // A part that is written leaves the rest as it was, so whatever is written is read.
        if (read || written) out_.gpr_read |= static_cast<std::uint16_t>(1U << number);
        if (written) out_.gpr_written |= static_cast<std::uint16_t>(1U << number);
        return true;
      }
      case ZYDIS_REGCLASS_XMM:
        if (operand.reg.value != ZYDIS_REGISTER_XMM0) return false;
        out_.xmm0_read = true;
        out_.xmm0_written |= written;
        return true;
      default:
        // Flags, MXCSR and the x87 registers are accounted for otherwise.
        return ZydisRegisterGetClass(operand.reg.value) == ZYDIS_REGCLASS_FLAGS ||
               ZydisRegisterGetClass(operand.reg.value) == ZYDIS_REGCLASS_X87 ||
               operand.reg.value == ZYDIS_REGISTER_MXCSR || operand.reg.value == ZYDIS_REGISTER_X87CONTROL ||
               operand.reg.value == ZYDIS_REGISTER_X87STATUS || operand.reg.value == ZYDIS_REGISTER_X87TAG;
    }
  }

  void flags(const ZydisDecodedInstruction& instruction) {
    if (instruction.cpu_flags == nullptr) return;
    const ZydisAccessedFlags& flags = *instruction.cpu_flags;
    std::uint64_t defined = (flags.modified | flags.set_0 | flags.set_1) & kStatus;
    if (clears_other_flags(insn_.mnemonic)) defined = kStatus;
    out_.flags_written = defined | (flags.undefined & kStatus);
    out_.flags_tested = out_.flags_read = flags.tested & kStatus;
    if (out_.flags_written == 0) return;
    // The save after the instruction takes all flags, so those that it may leave alone must be there before.
    out_.flags_read |= kStatus & ~out_.flags_written;
    const bool by_register = is_shift(insn_.mnemonic) && insn_.op[insn_.operand_count - 1].kind == OperandKind::Gpr;
    const bool by_zero = is_shift(insn_.mnemonic) && !by_register && (insn_.imm[0] & 0x1F) == 0;
    // A rotate through carry by its whole width changes nothing, either.
    const bool through_carry = insn_.mnemonic == ZYDIS_MNEMONIC_RCL || insn_.mnemonic == ZYDIS_MNEMONIC_RCR;
    // Undefined flags are what the host makes of them, which may be what they were; AF alone is not worth it.
    const bool undefined = (flags.undefined & kStatus & ~x86::rflags::kAf) != 0;
    if (by_register || by_zero || through_carry || undefined) out_.flags_read |= out_.flags_written;
  }

  static bool uses_mxcsr(ZydisExceptionClass exceptions) {
    switch (exceptions) {
      case ZYDIS_EXCEPTION_CLASS_SSE2:
      case ZYDIS_EXCEPTION_CLASS_SSE3:
      case ZYDIS_EXCEPTION_CLASS_AVX2:
      case ZYDIS_EXCEPTION_CLASS_AVX3:
      case ZYDIS_EXCEPTION_CLASS_AVX11:
        return true;
      default:
        return false;
    }
  }

  const Insn& insn_;
  Canonical& out_;
  ZydisEncoderRequest request_{};
  std::uint8_t next_gpr_ = kFirstGpr;
};

}  // namespace

bool bakes_immediate(const Insn& insn) {
  return !takes_register_for_immediate(insn.mnemonic) && insn.mnemonic != ZYDIS_MNEMONIC_IMUL;
}

/// The string comparisons take their lengths from EAX and EDX or from RAX and RDX.
bool depends_on_operand_size(ZydisMnemonic mnemonic) {
  return mnemonic == ZYDIS_MNEMONIC_PCMPESTRI || mnemonic == ZYDIS_MNEMONIC_PCMPESTRM ||
         mnemonic == ZYDIS_MNEMONIC_VPCMPESTRI || mnemonic == ZYDIS_MNEMONIC_VPCMPESTRM;
}

bool canonicalize(const Insn& insn, Canonical& canonical) {
  canonical = Canonical{};
  return Builder(insn, canonical).build();
}

}  // namespace doppel::isa
