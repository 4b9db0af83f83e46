#include "isa/decoder.h"

#include <algorithm>

#include "isa/isa_sets.h"

namespace doppel::isa {

namespace {

using Feature = x86::CpuidModel::Feature;

constexpr std::size_t kRealModeDecoder = 3;
constexpr std::array kWidestMode{ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32,
                                 ZYDIS_MACHINE_MODE_LONG_64};
constexpr std::uint32_t kAuthenticAmdEbx = 0x6874'7541;  // "Auth"

/// String instructions, whose REP and REPNE prefixes and source segment matter.
bool is_string(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_MOVSB:
    case ZYDIS_MNEMONIC_MOVSW:
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_MOVSQ:
    case ZYDIS_MNEMONIC_CMPSB:
    case ZYDIS_MNEMONIC_CMPSW:
    case ZYDIS_MNEMONIC_CMPSD:
    case ZYDIS_MNEMONIC_CMPSQ:
    case ZYDIS_MNEMONIC_STOSB:
    case ZYDIS_MNEMONIC_STOSW:
    case ZYDIS_MNEMONIC_STOSD:
    case ZYDIS_MNEMONIC_STOSQ:
    case ZYDIS_MNEMONIC_LODSB:
    case ZYDIS_MNEMONIC_LODSW:
    case ZYDIS_MNEMONIC_LODSD:
    case ZYDIS_MNEMONIC_LODSQ:
    case ZYDIS_MNEMONIC_SCASB:
    case ZYDIS_MNEMONIC_SCASW:
    case ZYDIS_MNEMONIC_SCASD:
    case ZYDIS_MNEMONIC_SCASQ:
    case ZYDIS_MNEMONIC_INSB:
    case ZYDIS_MNEMONIC_INSW:
    case ZYDIS_MNEMONIC_INSD:
    case ZYDIS_MNEMONIC_OUTSB:
    case ZYDIS_MNEMONIC_OUTSW:
    case ZYDIS_MNEMONIC_OUTSD:
      return true;
    default:
      return false;
  }
}

/// MOVSD and CMPSD are also SSE2 instructions, of the same mnemonic.
bool is_string(const ZydisDecodedInstruction& instruction) {
  return is_string(instruction.mnemonic) && instruction.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT;
}

std::uint8_t gpr_number(ZydisRegister reg) {
  if (reg == ZYDIS_REGISTER_NONE) return kNoRegister;
  if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP) return kRipRegister;
  return static_cast<std::uint8_t>(ZydisRegisterGetId(reg));
}

x86::SegReg segment_number(ZydisRegister reg) {
  return static_cast<x86::SegReg>(ZydisRegisterGetId(reg));
}

void convert_register(ZydisRegister reg, Operand& out) {
  const auto number = static_cast<std::uint8_t>(ZydisRegisterGetId(reg));
  switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8:
      // Zydis counts AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8B …
      if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH) {
        out.kind = OperandKind::GprHigh;
        out.reg = static_cast<std::uint8_t>(reg - ZYDIS_REGISTER_AH);
      } else {
        out.kind = OperandKind::Gpr;
        out.reg = static_cast<std::uint8_t>(reg < ZYDIS_REGISTER_AH ? reg - ZYDIS_REGISTER_AL
                                                                    : reg - ZYDIS_REGISTER_SPL + x86::kRsp);
      }
      return;
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
      out.kind = OperandKind::Gpr;
      break;
    case ZYDIS_REGCLASS_SEGMENT:
      out.kind = OperandKind::Segment;
      break;
    case ZYDIS_REGCLASS_CONTROL:
      out.kind = OperandKind::Control;
      break;
    case ZYDIS_REGCLASS_DEBUG:
      out.kind = OperandKind::Debug;
      break;
    case ZYDIS_REGCLASS_MMX:
      out.kind = OperandKind::Mmx;
      break;
    case ZYDIS_REGCLASS_X87:
      out.kind = OperandKind::X87;
      break;
    case ZYDIS_REGCLASS_XMM:
      out.kind = OperandKind::Xmm;
      break;
    case ZYDIS_REGCLASS_YMM:
      out.kind = OperandKind::Ymm;
      break;
    default:
      break;
  }
  out.reg = number;
}

/// SIB with base 101 and mod 00 is an address without a base, whatever REX.B says; Zydis 4.0 reads R13 there.
bool has_no_base(const ZydisDecodedInstruction& instruction) {
  return (instruction.attributes & ZYDIS_ATTRIB_HAS_SIB) != 0 && instruction.raw.modrm.mod == 0 &&
         instruction.raw.sib.base == 5;
}

void convert_memory(const ZydisDecodedOperand& operand, std::uint8_t address_size, MemoryOperand& out) {
  const ZydisDecodedOperandMem& mem = operand.mem;
  out.base = gpr_number(mem.base);
  out.index = gpr_number(mem.index);
  out.scale = std::max<std::uint8_t>(mem.scale, 1);
  out.segment = mem.segment == ZYDIS_REGISTER_NONE ? x86::SegReg::Ds : segment_number(mem.segment);
  out.address_size = address_size;
  out.gather = mem.type == ZYDIS_MEMOP_TYPE_VSIB;
  out.index_ymm = ZydisRegisterGetClass(mem.index) == ZYDIS_REGCLASS_YMM;
  out.displacement = mem.disp.has_displacement ? mem.disp.value : 0;
}

OperandField field_of(ZydisOperandEncoding encoding) {
  switch (encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG:
      return OperandField::ModrmReg;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
      return OperandField::ModrmRm;
    case ZYDIS_OPERAND_ENCODING_NDSNDD:
      return OperandField::Vvvv;
    case ZYDIS_OPERAND_ENCODING_OPCODE:
      return OperandField::Opcode;
    case ZYDIS_OPERAND_ENCODING_IS4:
      return OperandField::Is4;
    default:
      return OperandField::Implied;
  }
}

void convert_operand(const ZydisDecodedOperand& operand, unsigned& immediates, Insn& insn, Operand& out) {
  out.size = static_cast<std::uint16_t>(operand.size / 8);
  out.read = (operand.actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0;
  out.written = (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
  out.field = field_of(operand.encoding);
  switch (operand.type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
      convert_register(operand.reg.value, out);
      out.size = ZydisRegisterGetWidth(kWidestMode[static_cast<std::size_t>(insn.code_size)], operand.reg.value) / 8;
      break;
    case ZYDIS_OPERAND_TYPE_MEMORY:
      out.kind = OperandKind::Memory;
      convert_memory(operand, insn.address_size, insn.mem);
      break;
    case ZYDIS_OPERAND_TYPE_POINTER:
      out.kind = OperandKind::FarPointer;
      insn.imm = {operand.ptr.offset, operand.ptr.segment};
      break;
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
      out.kind = operand.imm.is_relative ? OperandKind::Relative : OperandKind::Immediate;
      out.reg = static_cast<std::uint8_t>(immediates);
      insn.imm[std::min(immediates++, 1u)] = operand.imm.value.u;
      break;
    default:
      break;
  }
}

/// The prefix of the F2/F3 group that counts: the last one.
void convert_rep(const ZydisDecodedInstruction& instruction, Insn& insn) {
  if (!is_string(instruction)) return;
  for (unsigned i = 0; i < instruction.raw.prefix_count; ++i) {
    const ZyanU8 prefix = instruction.raw.prefixes[i].value;
    if (prefix != 0xF2 && prefix != 0xF3) continue;
    insn.repne = prefix == 0xF2;
    insn.rep = prefix == 0xF3;
  }
}

/// Memory that has no operand of its own in the assembler's notation, but may have a segment override.
bool has_implied_source(const ZydisDecodedInstruction& instruction) {
  return is_string(instruction) || instruction.mnemonic == ZYDIS_MNEMONIC_XLAT ||
         instruction.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU || instruction.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ ||
         instruction.mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU;
}

void convert_implied_source(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands,
                            Insn& insn) {
  for (unsigned i = 0; i < instruction.operand_count; ++i) {
    if (operands[i].type != ZYDIS_OPERAND_TYPE_MEMORY) continue;
    const std::uint8_t base = gpr_number(operands[i].mem.base);
    // The destination of a string instruction is always ES:DI; what counts is the other one.
    if (is_string(instruction) && base == x86::kRdi) continue;
    convert_memory(operands[i], insn.address_size, insn.mem);
  }
}

Encoding::Map map_of(ZydisOpcodeMap map) {
  switch (map) {
    case ZYDIS_OPCODE_MAP_0F:
      return Encoding::Map::Map0F;
    case ZYDIS_OPCODE_MAP_0F38:
      return Encoding::Map::Map0F38;
    case ZYDIS_OPCODE_MAP_0F3A:
      return Encoding::Map::Map0F3A;
    default:
      return Encoding::Map::Default;
  }
}

void convert_encoding(const ZydisDecodedInstruction& instruction, Encoding& out) {
  out = Encoding{};
  const auto& raw = instruction.raw;
  out.map = map_of(instruction.opcode_map);
  out.opcode = instruction.opcode;
  out.has_modrm = (instruction.attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0;
  out.modrm = static_cast<std::uint8_t>(raw.modrm.mod << 6 | raw.modrm.reg << 3 | raw.modrm.rm);
  out.vex = instruction.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
  constexpr std::uint8_t kRepeatOfPp[] = {0, 0, 0xF3, 0xF2};
  if (out.vex) {
    out.w = raw.vex.W != 0;
    out.l = raw.vex.L != 0;
    out.vvvv = static_cast<std::uint8_t>(~raw.vex.vvvv & 0xF);
    out.operand_size = raw.vex.pp == 1;
    out.repeat = kRepeatOfPp[raw.vex.pp & 3];
  } else {
    out.w = raw.rex.W != 0;
    for (unsigned i = 0; i < raw.prefix_count; ++i) {
      if (raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_IGNORED) continue;
      const ZyanU8 prefix = raw.prefixes[i].value;
      if (prefix == 0x66) out.operand_size = true;
      if (prefix == 0xF2 || prefix == 0xF3) out.repeat = prefix;
    }
  }
  if (raw.imm[0].size != 0) out.immediate_at = raw.imm[0].offset;
}

bool has_operand(const Insn& insn, OperandKind kind) {
  return std::any_of(insn.op.begin(), insn.op.begin() + insn.operand_count,
                     [kind](const Operand& operand) { return operand.kind == kind; });
}

bool is_x87(const ZydisDecodedInstruction& instruction) {
  const bool escape = instruction.opcode >= 0xD8 && instruction.opcode <= 0xDF;
  return instruction.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (escape || instruction.mnemonic == ZYDIS_MNEMONIC_FWAIT);
}

/// Conversions from memory to a general register: no operand shows that they are SSE's.
bool converts_to_gpr(ZydisMnemonic mnemonic) {
  return mnemonic == ZYDIS_MNEMONIC_CVTSS2SI || mnemonic == ZYDIS_MNEMONIC_CVTTSS2SI ||
         mnemonic == ZYDIS_MNEMONIC_CVTSD2SI || mnemonic == ZYDIS_MNEMONIC_CVTTSD2SI;
}

Unit unit_of(const ZydisDecodedInstruction& instruction, const Insn& insn) {
  if (is_x87(instruction)) return Unit::X87;
  switch (instruction.meta.isa_set) {
    case ZYDIS_ISA_SET_BMI1:
    case ZYDIS_ISA_SET_BMI2:
      return Unit::Integer;
    default:
      break;
  }
  if (instruction.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) return Unit::Avx;
  if (has_operand(insn, OperandKind::Mmx) || insn.mnemonic == ZYDIS_MNEMONIC_EMMS) return Unit::Mmx;
  const bool mxcsr = insn.mnemonic == ZYDIS_MNEMONIC_LDMXCSR || insn.mnemonic == ZYDIS_MNEMONIC_STMXCSR;
  const bool sse = mxcsr || converts_to_gpr(insn.mnemonic) || has_operand(insn, OperandKind::Xmm);
  return sse ? Unit::Sse : Unit::Integer;
}

/// Where AMD's processors read the same bytes otherwise (APM vol. 3, 1.2.7 and the instructions' own pages): 66H makes
/// near branches of 64-bit mode 16 bits wide, far pointers in memory never have 64-bit offsets, and 0F 0D is for memory
/// only. False: undefined.
bool convert_for_amd(const ZydisDecodedInstruction& instruction, Insn& insn) {
  const bool near_branch =
      instruction.meta.branch_type == ZYDIS_BRANCH_TYPE_SHORT || instruction.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR;
  const bool wide = (instruction.attributes & ZYDIS_ATTRIB_HAS_REX) != 0 && instruction.raw.rex.W != 0;
  const bool narrow = (instruction.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) != 0 && !wide;
  if (insn.code_size == CodeSize::Bits64 && near_branch && narrow) {
    insn.operand_size = 2;
    if (insn.op[0].kind == OperandKind::Gpr || insn.op[0].kind == OperandKind::Memory) insn.op[0].size = 2;
  }
  const bool prefetch = instruction.opcode_map == ZYDIS_OPCODE_MAP_0F && instruction.opcode == 0x0D;
  return !prefetch || instruction.raw.modrm.mod != 3;
}

}  // namespace

Decoder::Decoder(const x86::CpuidModel& cpuid) : amd_(cpuid.query(0, 0, {}).ebx == kAuthenticAmdEbx) {
  for (std::size_t set = 0; set < has_set_.size(); ++set)
    has_set_[set] = has_isa_set(cpuid, static_cast<ZydisISASet>(set));

  ZydisDecoderInit(&decoders_[0], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
  ZydisDecoderInit(&decoders_[1], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
  ZydisDecoderInit(&decoders_[2], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  ZydisDecoderInit(&decoders_[kRealModeDecoder], ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16);
  for (ZydisDecoder& decoder : decoders_) {
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_AMD_BRANCHES, amd_);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_KNC, false);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MPX, false);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CET, false);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_LZCNT, cpuid.has(Feature::Lzcnt));
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_TZCNT, cpuid.has(Feature::Bmi1));
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_WBNOINVD, false);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CLDEMOTE, false);
  }
}

DecodeStatus Decoder::decode(std::span<const std::byte> bytes, CodeSize code_size, bool protected_mode, Insn& insn,
                             Encoding* encoding) const {
  const bool real_mode = code_size == CodeSize::Bits16 && !protected_mode;
  const ZydisDecoder& decoder = decoders_[real_mode ? kRealModeDecoder : static_cast<std::size_t>(code_size)];
  const std::size_t length = std::min(bytes.size(), kMaxInsnLength);
  ZydisDecodedInstruction instruction;
  std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands;
  ZyanStatus status = ZydisDecoderDecodeFull(&decoder, bytes.data(), length, &instruction, operands.data());
  if (real_mode && status == ZYDIS_STATUS_DECODING_ERROR) {
    // These two are there in virtual-8086 mode, and #GP in real mode.
    status = ZydisDecoderDecodeFull(decoders_.data(), bytes.data(), length, &instruction, operands.data());
    if (!ZYAN_SUCCESS(status) ||
        (instruction.mnemonic != ZYDIS_MNEMONIC_SYSENTER && instruction.mnemonic != ZYDIS_MNEMONIC_SYSEXIT))
      return DecodeStatus::Undefined;
  }
  if (status == ZYDIS_STATUS_NO_MORE_DATA)
    return length < kMaxInsnLength ? DecodeStatus::NeedsMoreBytes : DecodeStatus::TooLong;
  if (status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG) return DecodeStatus::TooLong;
  if (!ZYAN_SUCCESS(status)) return DecodeStatus::Undefined;

  const bool rex_b = (instruction.attributes & ZYDIS_ATTRIB_HAS_REX) != 0 && instruction.raw.rex.B != 0;
  if (instruction.mnemonic == ZYDIS_MNEMONIC_PAUSE && rex_b)
    return decode_exchange(bytes.first(instruction.length), insn, encoding);

  const bool vector_prefix = instruction.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY;
  if (vector_prefix && (instruction.encoding != ZYDIS_INSTRUCTION_ENCODING_VEX || !protected_mode))
    return DecodeStatus::Undefined;
  if (!has_set_[instruction.meta.isa_set]) return DecodeStatus::Undefined;

  insn = Insn{};
  insn.mnemonic = instruction.mnemonic;
  insn.length = instruction.length;
  insn.operand_size = instruction.operand_width / 8;
  insn.address_size = instruction.address_width / 8;
  insn.code_size = code_size;
  insn.lock = (instruction.attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0;
  insn.far_branch = instruction.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
  insn.string = is_string(instruction);
  convert_rep(instruction, insn);
  insn.operand_count = std::min<std::uint8_t>(instruction.operand_count_visible, insn.op.size());
  unsigned immediates = 0;
  for (unsigned i = 0; i < insn.operand_count; ++i) convert_operand(operands[i], immediates, insn, insn.op[i]);
  insn.unit = unit_of(instruction, insn);
  if (amd_ && !convert_for_amd(instruction, insn)) return DecodeStatus::Undefined;
  if (has_no_base(instruction) && has_operand(insn, OperandKind::Memory)) {
    insn.mem.base = kNoRegister;
    insn.mem.displacement = instruction.raw.disp.value;
  }
  if (has_implied_source(instruction)) convert_implied_source(instruction, operands.data(), insn);
  if (encoding != nullptr) convert_encoding(instruction, *encoding);
  return DecodeStatus::Ok;
}

/// F3 90 with REX.B is no PAUSE but XCHG with R8, as without the prefix.
DecodeStatus Decoder::decode_exchange(std::span<const std::byte> pause, Insn& insn, Encoding* encoding) const {
  constexpr std::byte kRepe{0xF3}, kRepne{0xF2}, kIgnored{0x3E};
  std::array<std::byte, kMaxInsnLength> bytes{};
  std::replace_copy_if(
      pause.begin(), pause.end(), bytes.begin(), [](std::byte byte) { return byte == kRepe || byte == kRepne; },
      kIgnored);
  return decode(std::span(bytes).first(pause.size()), CodeSize::Bits64, true, insn, encoding);
}

}  // namespace doppel::isa
