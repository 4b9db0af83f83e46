#include "fuzz_isa/generator.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "fuzz_isa/random_bytes.h"
#include "fuzz_isa/values.h"
#include "isa/op_table.h"

namespace doppel::fuzz_isa {

/// A case in the making.
struct Generator::Draft {
  Random random;
  Case result;
  std::uint64_t at;              ///< where the next instruction goes
  std::uint64_t undefined = 0;   ///< flags, at the moment
  std::array<bool, 16> fixed{};  ///< general registers on which an instruction's address depends already
  bool bits64() const { return result.start.bits64(); }

  void set(unsigned reg, std::uint64_t value) {
    if (fixed[reg]) return;
    fixed[reg] = true;
    result.start.gpr[reg] = bits64() ? value : value & 0xFFFF'FFFF;
  }
};

namespace {

/// What differs by design, or whose outcome belongs to the host's kernel or to time.
bool has_no_native_judge(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_SYSCALL:
    case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
    case ZYDIS_MNEMONIC_RDRAND:
    case ZYDIS_MNEMONIC_RDSEED:
    case ZYDIS_MNEMONIC_RDPID:
    case ZYDIS_MNEMONIC_RDPMC:
    case ZYDIS_MNEMONIC_XGETBV:
    // Linux emulates these for programs on processors with UMIP.
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_STR:
    case ZYDIS_MNEMONIC_SMSW:
    case ZYDIS_MNEMONIC_VMCALL:
    case ZYDIS_MNEMONIC_VMMCALL:
    // XCR0 is another one: AVX-512.
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XSAVEC:
    case ZYDIS_MNEMONIC_XSAVEC64:
    case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64:
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
    // AMD's processors find other lengths in these bytes.
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_VMREAD:
    case ZYDIS_MNEMONIC_VMWRITE:
    // The limit of one of Linux's segments is the number of the processor.
    case ZYDIS_MNEMONIC_LSL:
    // The host has SVM, guests do not.
    case ZYDIS_MNEMONIC_VMRUN:
    case ZYDIS_MNEMONIC_VMLOAD:
    case ZYDIS_MNEMONIC_VMSAVE:
    case ZYDIS_MNEMONIC_STGI:
    case ZYDIS_MNEMONIC_CLGI:
    case ZYDIS_MNEMONIC_SKINIT:
    case ZYDIS_MNEMONIC_INVLPGA:
    // MXCSR_MASK has AMD's misaligned mode, and FNSAVE stores selectors; guests have neither.
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FNSTENV:
    // A hypervisor that intercepts #DB may report another RIP.
    case ZYDIS_MNEMONIC_INT1:
    // FS is the host program's thread pointer.
    case ZYDIS_MNEMONIC_RDFSBASE:
    case ZYDIS_MNEMONIC_WRFSBASE:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
      return true;
    default:
      return false;
  }
}

/// What makes several accesses to memory, or may.
bool has_parts(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_BOUND:
    case ZYDIS_MNEMONIC_LDS:
    case ZYDIS_MNEMONIC_LES:
    case ZYDIS_MNEMONIC_LSS:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
      return true;
    default:
      return false;
  }
}

bool is_bit_test(ZydisMnemonic mnemonic) {
  return mnemonic == ZYDIS_MNEMONIC_BT || mnemonic == ZYDIS_MNEMONIC_BTS || mnemonic == ZYDIS_MNEMONIC_BTR ||
         mnemonic == ZYDIS_MNEMONIC_BTC;
}

unsigned number_of(ZydisRegister reg) {
  return static_cast<unsigned>(ZydisRegisterGetId(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg)));
}

bool is_gpr(ZydisRegister reg) {
  return ZydisRegisterGetClass(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg)) ==
         ZYDIS_REGCLASS_GPR64;
}

void patch(std::vector<std::uint8_t>& bytes, unsigned offset, unsigned bits, std::uint64_t value) {
  std::memcpy(bytes.data() + offset, &value, bits / 8);
}

/// Branches go forward, to a later instruction or the end, or anywhere where nothing is: no case should run in circles.
void aim_branches(Random& random, std::vector<Instruction>& instructions) {
  std::uint64_t behind = 0;  // bytes from the end of the instruction to the end of all
  for (auto at = instructions.rbegin(); at != instructions.rend(); ++at) {
    if (at->branch_size != 0) {
      std::uint64_t distance = 0;
      for (auto next = at.base(); next != instructions.end() && random.percent(50); ++next)
        distance += next->bytes.size();
      if (random.percent(10))
        distance = at->branch_size == 32 ? random.next() & 0x7FFF'FFFF : random.between(behind, behind + 4);
      patch(at->bytes, at->branch_offset, at->branch_size, distance);
    }
    behind += at->bytes.size();
  }
}

void note_branch(const ZydisDecodedInstruction& decoded, Instruction& result) {
  for (const auto& immediate : decoded.raw.imm) {
    if (immediate.size == 0 || !immediate.is_relative) continue;
    result.branch_offset = immediate.offset;
    result.branch_size = immediate.size;
  }
}

}  // namespace

Generator::Generator(const x86::CpuidModel& cpuid) : decoder_(cpuid) {
  ZydisDecoderInit(&zydis64_, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  ZydisDecoderInit(&zydis32_, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
  for (ZydisDecoder* decoder : {&zydis64_, &zydis32_}) {
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_MPX, false);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_CET, false);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_KNC, false);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_AMD_BRANCHES, cpuid.vendor() == x86::CpuidModel::Vendor::Amd);
  }
}

bool Generator::usable(const ZydisDecodedInstruction& decoded, const ZydisDecodedOperand* operands, bool bits64) const {
  if (has_no_native_judge(decoded.mnemonic)) return false;
  if (decoded.mnemonic == ZYDIS_MNEMONIC_INT && operands[0].imm.value.u == 0x80) return false;
  // AMD's processors take the condition of LOOPE and LOOPNE from a repeat prefix if there is one.
  const bool loop = decoded.mnemonic == ZYDIS_MNEMONIC_LOOPE || decoded.mnemonic == ZYDIS_MNEMONIC_LOOPNE;
  for (unsigned i = 0; loop && i < decoded.raw.prefix_count; ++i)
    if (decoded.raw.prefixes[i].value >= 0xF2) return false;
  // Intel's processors ignore VEX.W here outside 64-bit mode, AMD's do not.
  const bool moves_element = decoded.mnemonic == ZYDIS_MNEMONIC_VPINSRD || decoded.mnemonic == ZYDIS_MNEMONIC_VPEXTRD;
  if (!bits64 && moves_element && decoded.raw.vex.W != 0) return false;
  // Which of its words a far return with an operand pops first is the processor's business.
  const bool far = decoded.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
  if (far && decoded.mnemonic == ZYDIS_MNEMONIC_RET && decoded.operand_count_visible > 0) return false;
  for (unsigned i = 0; i < decoded.operand_count; ++i) {
    const ZydisDecodedOperand& operand = operands[i];
    if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY && operand.mem.segment == ZYDIS_REGISTER_FS && bits64) return false;
    if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER &&
        (operand.reg.value == ZYDIS_REGISTER_FS || operand.reg.value == ZYDIS_REGISTER_GS) &&
        (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0)
      return false;
  }
  return true;
}

std::optional<Instruction> Generator::instruction(Draft& draft) const {
  Random& random = draft.random;
  const bool bits64 = draft.bits64();
  std::vector<std::uint8_t> bytes = random_bytes(random, bits64);
  ZydisDecodedInstruction decoded;
  std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands;
  if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(bits64 ? &zydis64_ : &zydis32_, bytes.data(), bytes.size(), &decoded,
                                           operands.data())))
    return std::nullopt;
  bytes.resize(decoded.length);
  isa::Insn insn;
  const isa::CodeSize size = bits64 ? isa::CodeSize::Bits64 : isa::CodeSize::Bits32;
  if (decoder_.decode(std::as_bytes(std::span(bytes)), size, true, insn) != isa::DecodeStatus::Ok) return std::nullopt;
  if (!usable(decoded, operands.data(), bits64)) return std::nullopt;

  if (decoded.cpu_flags != nullptr) {
    // What is undefined stays in the flags: nothing else may come to depend on it.
    const ZydisAccessedFlags& flags = *decoded.cpu_flags;
    if ((flags.tested & draft.undefined) != 0) return std::nullopt;
    draft.undefined &= ~std::uint64_t{flags.modified | flags.set_0 | flags.set_1};
    draft.undefined |= flags.undefined;
    draft.result.undefined_flags |= flags.undefined;
  }

  Instruction result;
  result.mnemonic = ZydisMnemonicGetString(decoded.mnemonic);
  result.form = "register";
  note_branch(decoded, result);
  const bool far = decoded.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
  draft.result.several_accesses |= far;
  // ENTER and POPA may have done a part when they fault, or find the fault in another order.
  const bool partial = decoded.mnemonic == ZYDIS_MNEMONIC_ENTER || decoded.mnemonic == ZYDIS_MNEMONIC_POPA ||
                       decoded.mnemonic == ZYDIS_MNEMONIC_POPAD;
  if (partial && (draft.result.start.gpr[x86::kRsp] - kDataBase - 2048 > 4096 ||
                  (draft.result.start.rflags & x86::rflags::kAc) != 0))
    return std::nullopt;
  if (partial) draft.fixed[x86::kRsp] = true;
  bool place_bits = false;
  for (unsigned i = 0; i < decoded.operand_count; ++i) {
    const ZydisDecodedOperand& operand = operands[i];
    if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY) continue;
    const ZydisDecodedOperandMem& mem = operand.mem;
    const std::size_t width = std::max<std::size_t>(operand.size / 8, 1);
    draft.result.several_accesses |= !std::has_single_bit(width) || width > 32 || has_parts(decoded.mnemonic);
    std::uint64_t target = data_address(random, width);
    if (mem.type != ZYDIS_MEMOP_TYPE_AGEN) {
      const bool split = target % 4096 + width > 4096;
      if (result.form != "memory, two pages") result.form = split ? "memory, two pages" : "memory";
    }
    place_bits |= is_bit_test(decoded.mnemonic);
    if (bits64 && mem.segment == ZYDIS_REGISTER_GS) target -= kGsBase;
    const auto displacement = static_cast<std::uint64_t>(mem.disp.has_displacement ? mem.disp.value : 0);
    if (mem.base == ZYDIS_REGISTER_RIP || mem.base == ZYDIS_REGISTER_EIP) {
      if (random.percent(95)) patch(bytes, decoded.raw.disp.offset, 32, target - (draft.at + decoded.length));
    } else if (mem.base == ZYDIS_REGISTER_NONE && mem.index == ZYDIS_REGISTER_NONE) {
      if (decoded.raw.disp.size >= 32) patch(bytes, decoded.raw.disp.offset, decoded.raw.disp.size, target);
    } else if (mem.type == ZYDIS_MEMOP_TYPE_VSIB) {
      auto& index = draft.result.start.ymm[static_cast<std::uint8_t>(ZydisRegisterGetId(mem.index))];
      for (std::uint64_t& element : index.qword) {
        element = random.below(100) | (random.percent(50) ? 0 : random.below(100) << 32);
        if (random.percent(3)) element = random.next();
      }
      if (mem.base != ZYDIS_REGISTER_NONE) draft.set(number_of(mem.base), target - displacement);
    } else {
      std::uint64_t indexed = 0;
      if (mem.index != ZYDIS_REGISTER_NONE && mem.index != mem.base) {
        const unsigned index = number_of(mem.index);
        // XLAT's index is AL.
        if (decoded.mnemonic != ZYDIS_MNEMONIC_XLAT)
          draft.set(index, mem.base == ZYDIS_REGISTER_NONE
                               ? (target - displacement) / std::max<std::uint8_t>(mem.scale, 1)
                           : random.percent(80) ? random.below(64)
                                                : integer(random));
        indexed = draft.result.start.gpr[index] * mem.scale;
      }
      if (mem.base != ZYDIS_REGISTER_NONE && is_gpr(mem.base)) {
        std::uint64_t value = target - displacement - indexed;
        if (mem.index == mem.base) value = (target - displacement) / (mem.scale + 1U);
        if (decoded.address_width == 32 && random.percent(30)) value |= random.next() << 32;
        draft.set(number_of(mem.base), value);
      }
    }
  }
  if (place_bits && operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER && random.percent(90))
    draft.set(number_of(operands[1].reg.value), random.below(16384) - 8192);
  const bool repeated =
      (decoded.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) != 0;
  if (repeated && random.percent(90)) draft.set(x86::kRcx, random.below(40));
  const bool division = decoded.mnemonic == ZYDIS_MNEMONIC_DIV || decoded.mnemonic == ZYDIS_MNEMONIC_IDIV;
  if (division && random.percent(70)) draft.set(x86::kRdx, random.percent(70) ? 0 : ~std::uint64_t{0});
  result.bytes = std::move(bytes);
  return result;
}

Case Generator::make(std::uint64_t seed, std::uint64_t number, std::size_t slot) const {
  Random random(seed ^ Random(number).next());
  Draft draft{random, {}, slot_of(slot) + random.below(12)};
  const bool last_of_page = slot % (kSlotsPerPage - 1) == kSlotsPerPage - 2;
  if (last_of_page) draft.at = slot_of(slot) + kSlotSize - random.between(1, 16);
  Image& start = draft.result.start;
  start.rip = draft.at;
  if (draft.random.percent(25)) start.cs = kUserCode32;
  start.rflags = flags(draft.random);
  start.fpu = fpu(draft.random);
  for (x86::Ymm& ymm : start.ymm) ymm = vector(draft.random);
  for (std::uint64_t& gpr : start.gpr) {
    const std::uint64_t choice = draft.random.below(10);
    gpr = choice < 6 ? integer(draft.random) : choice < 9 ? data_address(draft.random, 16) : draft.at + 30;
    if (!start.bits64()) gpr &= 0xFFFF'FFFF;
  }
  if (draft.random.percent(90)) start.gpr[x86::kRsp] = kDataBase + 4096 + 8 * draft.random.below(64);

  const std::uint64_t count = draft.random.percent(70) ? 1 : draft.random.between(2, 3);
  while (draft.result.instructions.size() < count) {
    std::optional<Instruction> made = instruction(draft);
    if (!made) continue;
    draft.at += made->bytes.size();
    draft.result.instructions.push_back(std::move(*made));
  }
  aim_branches(draft.random, draft.result.instructions);
  return draft.result;
}

}  // namespace doppel::fuzz_isa
