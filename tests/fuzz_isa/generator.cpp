#include "fuzz_isa/generator.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/bits.h"
#include "fuzz_isa/random_bytes.h"
#include "fuzz_isa/values.h"
#include "isa/op_table.h"

namespace doppel::fuzz_isa {

/// A case in the making.
struct Generator::Draft {
  Random random;
  Case& result;
  Mode mode;
  std::uint64_t at;                ///< where the next instruction goes: linear
  std::uint64_t undefined = 0;     ///< flags, at the moment
  std::array<bool, 16> fixed{};    ///< general registers on which an instruction's address depends already
  std::array<bool, 16> written{};  ///< … and those that an instruction has changed

  Image& start() { return result.start; }
  bool small_stack() const {
    const LocalSegment* stack = local_segment(result.start.ss);
    return mode != Mode::Bits64 && stack != nullptr && !stack->big;
  }
  void set(unsigned reg, std::uint64_t value) {
    if (fixed[reg]) return;
    fixed[reg] = true;
    if (mode != Mode::Bits64) value &= 0xFFFF'FFFF;
    if (reg == x86::kRsp && small_stack()) value = kUpperSp | (value & 0xFFFF);
    result.start.gpr[reg] = value;
  }
  std::uint64_t base_of(ZydisRegister segment) const {
    const Image& image = result.start;
    switch (segment) {
      case ZYDIS_REGISTER_FS:
        return image.fs_base;
      case ZYDIS_REGISTER_GS:
        return image.gs_base;
      case ZYDIS_REGISTER_SS:
        return mode == Mode::Bits64 ? 0 : segment_base(image.ss);
      case ZYDIS_REGISTER_ES:
        return mode == Mode::Bits64 ? 0 : segment_base(image.es);
      case ZYDIS_REGISTER_CS:
        return mode == Mode::Bits64 ? 0 : segment_base(image.cs);
      default:
        return mode == Mode::Bits64 ? 0 : segment_base(image.ds);
    }
  }
};

namespace {

/// A count of 0 leaves all flags as they are, undefined ones too.
bool may_leave_flags(const ZydisDecodedInstruction& instruction) {
  constexpr ZydisInstructionAttributes kRepeated =
      ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE;
  if ((instruction.attributes & kRepeated) != 0) return true;
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SHRD:
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
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_LSS:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
      return true;
    default:
      return false;
  }
}

/// Its operands are looked up in an order that differs between processors (Zen 4: DI's first; Zen 5: SI's).
bool is_string_compare(ZydisMnemonic mnemonic) {
  return mnemonic == ZYDIS_MNEMONIC_CMPSB || mnemonic == ZYDIS_MNEMONIC_CMPSW || mnemonic == ZYDIS_MNEMONIC_CMPSD ||
         mnemonic == ZYDIS_MNEMONIC_CMPSQ;
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

void patch(Instruction& made, unsigned offset, unsigned bits, std::uint64_t value) {
  std::memcpy(made.bytes.data() + offset, &value, bits / 8);
}

/// Branches go forward, to a later instruction or the end, or anywhere where nothing is: no case should run in circles.
void aim_branches(Random& random, Case& made) {
  std::vector<Instruction>& instructions = made.instructions;
  std::uint64_t at = made.start.linear_rip(), end = at;
  for (const Instruction& instruction : instructions) end += instruction.length;
  for (std::size_t i = 0; i < instructions.size(); ++i) {
    Instruction& branch = instructions[i];
    at += branch.length;
    if (branch.branch_size == 0) continue;
    std::uint64_t distance = 0;
    for (std::size_t next = i + 1; next < instructions.size() && random.percent(50); ++next)
      distance += instructions[next].length;
    if (random.percent(5))
      distance = branch.branch_size == 32 ? random.next() & 0x7FFF'FFFF : end + kWayOutJump - at + random.below(5);
    patch(branch, branch.branch_offset, branch.branch_size, distance);
    branch.branch_target = at + distance;
  }
}

void note_branch(const ZydisDecodedInstruction& decoded, Instruction& result) {
  for (const auto& immediate : decoded.raw.imm) {
    if (immediate.size == 0 || !immediate.is_relative) continue;
    result.branch_offset = immediate.offset;
    result.branch_size = immediate.size;
  }
}

constexpr std::array kMachineModes{ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_MACHINE_MODE_LEGACY_32,
                                   ZYDIS_MACHINE_MODE_LEGACY_16};
constexpr std::array kStackWidths{ZYDIS_STACK_WIDTH_64, ZYDIS_STACK_WIDTH_32, ZYDIS_STACK_WIDTH_16};
constexpr std::array kCodeSizes{isa::CodeSize::Bits64, isa::CodeSize::Bits32, isa::CodeSize::Bits16};

/// Data segments to start with, in 16- and 32-bit code.
constexpr std::array<std::uint16_t, 5> kStackSelectors{kUserData, local_selector(2), local_selector(3),
                                                       local_selector(4), local_selector(6)};
constexpr std::array<std::uint16_t, 6> kDataSelectors{kUserData,         local_selector(2), local_selector(3),
                                                      local_selector(4), local_selector(5), local_selector(6)};

void choose_segments(Random& random, Mode mode, Image& start) {
  constexpr std::array kCodeSelectors{kUserCode64, kUserCode32, kUserCode16};
  start.cs = kCodeSelectors[static_cast<std::size_t>(mode)];
  start.ss = start.ds = start.es = kUserData;
  start.fs = start.gs = 0;
  start.fs_base = kFsBase;
  start.gs_base = kGsBase;
  if (mode == Mode::Bits64 || random.percent(mode == Mode::Bits32 ? 60 : 10)) return;
  start.ss = random.pick(kStackSelectors);
  start.ds = random.pick(kDataSelectors);
  start.es = random.pick(kDataSelectors);
  if (random.percent(70)) start.fs_base = segment_base(start.fs = random.pick(kDataSelectors));
  if (random.percent(70)) start.gs_base = segment_base(start.gs = random.pick(kDataSelectors));
}

}  // namespace

Generator::Generator(const x86::CpuidModel& cpuid) : decoder_(cpuid), claims_(decoder_) {
  for (std::size_t i = 0; i < judged_.size(); ++i) judged_[i] = no_judge(static_cast<ZydisMnemonic>(i)) == nullptr;
  for (std::size_t mode = 0; mode < kModes; ++mode) {
    ZydisDecoder& decoder = zydis_[mode];
    ZydisDecoderInit(&decoder, kMachineModes[mode], kStackWidths[mode]);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MPX, false);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CET, false);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_KNC, false);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_AMD_BRANCHES, cpuid.vendor() == x86::CpuidModel::Vendor::Amd);
  }
}

bool Generator::usable(const Decoded& decoded, Mode mode) const {
  const ZydisDecodedInstruction& instruction = decoded.instruction;
  if (!judged_[instruction.mnemonic]) return false;
  if (instruction.mnemonic == ZYDIS_MNEMONIC_INT && decoded.operands[0].imm.value.u == 0x80) return false;
  // AMD's processors take the condition of LOOPE and LOOPNE from a repeat prefix if there is one.
  const bool loop = instruction.mnemonic == ZYDIS_MNEMONIC_LOOPE || instruction.mnemonic == ZYDIS_MNEMONIC_LOOPNE;
  for (unsigned i = 0; loop && i < instruction.raw.prefix_count; ++i)
    if (instruction.raw.prefixes[i].value >= 0xF2) return false;
  // Intel's processors ignore VEX.W here outside 64-bit mode, AMD's do not.
  const bool moves_element =
      instruction.mnemonic == ZYDIS_MNEMONIC_VPINSRD || instruction.mnemonic == ZYDIS_MNEMONIC_VPEXTRD;
  if (mode != Mode::Bits64 && moves_element && instruction.raw.vex.W != 0) return false;
  return true;
}

bool Generator::decode(const Draft& draft, Instruction& made, Decoded& decoded) const {
  const auto mode = static_cast<std::size_t>(draft.mode);
  if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&zydis_[mode], made.bytes.data(), made.bytes.size(), &decoded.instruction,
                                           decoded.operands.data())))
    return false;
  made.length = decoded.instruction.length;
  const auto bytes = std::as_bytes(std::span(made.bytes).first(made.length));
  return decoder_.decode(bytes, kCodeSizes[mode], true, decoded.insn, &decoded.encoding) == isa::DecodeStatus::Ok;
}

/// Whether an instruction may come next: what it depends on is defined, and where it is has a chance to be right.
bool Generator::acceptable(Draft& draft, const Decoded& decoded) const {
  const ZydisDecodedInstruction& instruction = decoded.instruction;
  if (instruction.cpu_flags != nullptr && (instruction.cpu_flags->tested & draft.undefined) != 0) return false;
  // SALC is not documented, nor does Zydis know what it reads.
  if (instruction.mnemonic == ZYDIS_MNEMONIC_SALC && (draft.undefined & x86::rflags::kCf) != 0) return false;
  // ENTER and POPA may have done a part when they fault, or find the fault in another order.
  const bool partial = instruction.mnemonic == ZYDIS_MNEMONIC_ENTER || instruction.mnemonic == ZYDIS_MNEMONIC_POPA ||
                       instruction.mnemonic == ZYDIS_MNEMONIC_POPAD;
  const Image& start = draft.start();
  const std::uint64_t stack = (start.gpr[x86::kRsp] & (draft.small_stack() ? 0xFFFFU : ~std::uint64_t{0})) +
                              (draft.mode == Mode::Bits64 ? 0 : segment_base(start.ss));
  if (partial && (draft.fixed[x86::kRsp] || draft.written[x86::kRsp] || stack - kDataBase - 2048 > 4096 ||
                  (start.rflags & x86::rflags::kAc) != 0))
    return false;
  if (partial && start.ss != kUserData) return false;
  for (unsigned i = 0; i < instruction.operand_count; ++i) {
    const ZydisDecodedOperand& operand = decoded.operands[i];
    if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY || operand.mem.type == ZYDIS_MEMOP_TYPE_AGEN) continue;
    // Of a 16-bit stack pointer the upper bits are not ours.
    if (operand.mem.base == ZYDIS_REGISTER_ESP && draft.small_stack()) return false;
    for (const ZydisRegister reg : {operand.mem.base, operand.mem.index})
      if (is_gpr(reg) && draft.written[number_of(reg)] && draft.random.percent(85)) return false;
  }
  return true;
}

void Generator::place_memory_operand(Draft& draft, const Decoded& decoded, const ZydisDecodedOperand& operand,
                                     Instruction& made) const {
  Random& random = draft.random;
  const ZydisDecodedInstruction& instruction = decoded.instruction;
  const ZydisDecodedOperandMem& mem = operand.mem;
  const std::size_t width = std::max<std::size_t>(operand.size / 8, 1);
  const bool parts = !std::has_single_bit(width) || width > 32 || has_parts(instruction.mnemonic);
  draft.result.several_accesses |= parts;
  constexpr std::size_t kImages = 10;  // what the x87 unit loads and stores in more than one piece
  draft.result.wraps |= width >= kImages && instruction.address_width == 16;
  std::uint64_t target = data_address(random, width);
  if (mem.type != ZYDIS_MEMOP_TYPE_AGEN) {
    made.reached.memory = true;
    made.reached.two_pages |= target % 4096 + width > 4096;
    made.reached.misaligned |= target % width != 0;
  }
  target -= draft.base_of(mem.segment);
  const auto displacement = static_cast<std::uint64_t>(mem.disp.has_displacement ? mem.disp.value : 0);
  const auto& disp = instruction.raw.disp;
  if (mem.base == ZYDIS_REGISTER_RIP || mem.base == ZYDIS_REGISTER_EIP) {
    if (random.percent(95)) patch(made, disp.offset, 32, target - (draft.at + instruction.length));
    return;
  }
  if (mem.base == ZYDIS_REGISTER_NONE && mem.index == ZYDIS_REGISTER_NONE) {
    if (disp.size >= 16) patch(made, disp.offset, disp.size, target);
    return;
  }
  if (mem.type == ZYDIS_MEMOP_TYPE_VSIB) {
    draft.result.gathers = true;
    auto& index = draft.start().ymm[static_cast<std::uint8_t>(ZydisRegisterGetId(mem.index))];
    for (std::uint64_t& element : index.qword) {
      element = random.below(100) | (random.percent(50) ? 0 : random.below(100) << 32);
      if (random.percent(3)) element = random.next();
    }
    if (mem.base != ZYDIS_REGISTER_NONE) draft.set(number_of(mem.base), target - displacement);
    return;
  }
  std::uint64_t indexed = 0;
  if (mem.index != ZYDIS_REGISTER_NONE && mem.index != mem.base) {
    const unsigned index = number_of(mem.index);
    // XLAT's index is AL.
    if (instruction.mnemonic != ZYDIS_MNEMONIC_XLAT)
      draft.set(index, mem.base == ZYDIS_REGISTER_NONE ? (target - displacement) / std::max<std::uint8_t>(mem.scale, 1)
                       : random.percent(80)            ? random.below(64)
                                                       : integer(random));
    indexed = draft.start().gpr[index] * mem.scale;
  }
  if (mem.base == ZYDIS_REGISTER_NONE || !is_gpr(mem.base)) return;
  const unsigned base = number_of(mem.base);
  if (draft.fixed[base] && disp.size >= 16 && mem.index != mem.base) {
    patch(made, disp.offset, disp.size, target - draft.start().gpr[base] - indexed);
    return;
  }
  std::uint64_t value = target - displacement - indexed;
  if (mem.index == mem.base) value = (target - displacement) / (mem.scale + 1U);
  if (instruction.address_width == 32 && random.percent(30)) value |= random.next() << 32;
  if (instruction.address_width == 16) value = (value & 0xFFFF) | (random.percent(50) ? random.next() << 16 : 0);
  draft.set(base, value);
}

bool Generator::add_instruction(Draft& draft) const {
  Random& random = draft.random;
  const bool bits64 = draft.mode == Mode::Bits64;
  Instruction made;
  if (random.percent(65)) {
    const auto& claims = claims_.of(draft.mode);
    const auto& openings = claims[random.below(claims.size())].openings;
    made.bytes = random_bytes(random, bits64, openings[random.below(openings.size())]);
  } else {
    made.bytes = random_bytes(random, bits64);
  }
  Decoded decoded;
  if (!decode(draft, made, decoded) || !usable(decoded, draft.mode) || !acceptable(draft, decoded)) return false;

  const ZydisDecodedInstruction& instruction = decoded.instruction;
  if (instruction.cpu_flags != nullptr) {
    // What is undefined stays in the flags: nothing else may come to depend on it.
    const ZydisAccessedFlags& flags = *instruction.cpu_flags;
    if (!may_leave_flags(instruction)) draft.undefined &= ~std::uint64_t{flags.modified | flags.set_0 | flags.set_1};
    draft.undefined |= flags.undefined;
    draft.result.undefined_flags |= flags.undefined;
  }
  made.mnemonic = static_cast<std::uint16_t>(instruction.mnemonic);
  made.reached.form = form_of(decoded.insn, decoded.encoding, draft.mode);
  made.reached.segment = (instruction.attributes & ZYDIS_ATTRIB_HAS_SEGMENT) != 0;
  made.reached.address_size = (instruction.attributes & ZYDIS_ATTRIB_HAS_ADDRESSSIZE) != 0;
  for (unsigned i = 0; i < instruction.raw.prefix_count; ++i)
    made.reached.redundant_prefixes |= instruction.raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_IGNORED;
  made.branches = instruction.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE;
  note_branch(instruction, made);
  draft.result.several_accesses |=
      instruction.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR || is_string_compare(instruction.mnemonic);
  const bool interrupt_return = instruction.mnemonic == ZYDIS_MNEMONIC_IRET ||
                                instruction.mnemonic == ZYDIS_MNEMONIC_IRETD ||
                                instruction.mnemonic == ZYDIS_MNEMONIC_IRETQ;
  const bool far_return = decoded.insn.far_branch && instruction.mnemonic == ZYDIS_MNEMONIC_RET;
  draft.result.looks_far_up |= interrupt_return || far_return;
  draft.result.far_calls |= decoded.insn.far_branch && instruction.mnemonic == ZYDIS_MNEMONIC_CALL;
  if ((interrupt_return || far_return) && random.percent(60))
    draft.set(x86::kRsp, return_frame(random, decoded.insn.operand_size) - draft.base_of(ZYDIS_REGISTER_SS));
  if (decoded.insn.operand_count == 1 && decoded.insn.op[0].kind == isa::OperandKind::FarPointer &&
      random.percent(60)) {
    const FarTarget target = far_target(random, decoded.insn.operand_size);
    patch(made, instruction.raw.imm[0].offset, instruction.raw.imm[0].size, target.offset);
    patch(made, instruction.raw.imm[1].offset, 16, target.selector);
  }
  const bool pops_all = instruction.mnemonic == ZYDIS_MNEMONIC_ENTER || instruction.mnemonic == ZYDIS_MNEMONIC_POPA ||
                        instruction.mnemonic == ZYDIS_MNEMONIC_POPAD;
  if (pops_all) draft.fixed[x86::kRsp] = true;
  bool in_memory = false;
  for (unsigned i = 0; i < instruction.operand_count; ++i) {
    if (decoded.operands[i].type != ZYDIS_OPERAND_TYPE_MEMORY) continue;
    in_memory = true;
    place_memory_operand(draft, decoded, decoded.operands[i], made);
  }
  const auto& second = decoded.operands[1];
  if (in_memory && is_bit_test(instruction.mnemonic) && second.type == ZYDIS_OPERAND_TYPE_REGISTER &&
      random.percent(90))
    draft.set(number_of(second.reg.value), random.below(16384) - 8192);
  const bool repeated =
      (instruction.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) != 0;
  if (repeated && random.percent(90)) draft.set(x86::kRcx, random.below(40));
  const bool division = instruction.mnemonic == ZYDIS_MNEMONIC_DIV || instruction.mnemonic == ZYDIS_MNEMONIC_IDIV;
  if (division && random.percent(70)) draft.set(x86::kRdx, random.percent(70) ? 0 : ~std::uint64_t{0});
  const bool loads_segment = decoded.insn.operand_count == 2 && decoded.insn.op[0].kind == isa::OperandKind::Segment &&
                             decoded.insn.op[1].kind == isa::OperandKind::Gpr;
  const bool looks_at_segment =
      instruction.mnemonic == ZYDIS_MNEMONIC_LAR || instruction.mnemonic == ZYDIS_MNEMONIC_VERR ||
      instruction.mnemonic == ZYDIS_MNEMONIC_VERW || instruction.mnemonic == ZYDIS_MNEMONIC_ARPL;
  for (unsigned i = 0; i < decoded.insn.operand_count && random.percent(70); ++i)
    if ((loads_segment || looks_at_segment) && decoded.insn.op[i].kind == isa::OperandKind::Gpr)
      draft.set(decoded.insn.op[i].reg, selector(random) | (random.next() << 16));
  for (unsigned i = 0; i < instruction.operand_count; ++i) {
    const ZydisDecodedOperand& operand = decoded.operands[i];
    const bool written = (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
    if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER || !written || !is_gpr(operand.reg.value)) continue;
    // Stack and string instructions move their pointers a little.
    const unsigned reg = number_of(operand.reg.value);
    const bool moves = reg == x86::kRsp || reg == x86::kRsi || reg == x86::kRdi;
    if (operand.visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN || !moves) draft.written[reg] = true;
  }
  draft.at += made.length;
  draft.result.instructions.push_back(made);
  return true;
}

void Generator::make(std::uint64_t seed, std::uint64_t number, std::size_t slot, Case& made) const {
  Random random(seed * 0x9E37'79B9'7F4A'7C15 ^ Random(number).next());
  made.instructions.clear();
  made.undefined_flags = 0;
  made.several_accesses = made.wraps = made.looks_far_up = made.far_calls = made.gathers = false;
  const std::uint64_t choice_of_mode = random.below(100);
  const Mode mode = choice_of_mode < 65 ? Mode::Bits64 : choice_of_mode < 86 ? Mode::Bits32 : Mode::Bits16;
  Image& start = made.start;
  choose_segments(random, mode, start);
  std::uint64_t at = slot_of(slot) + random.below(12);
  // The jump to the way out takes up to eight bytes.
  const std::uint64_t limit = slot_of(slot) + kSlotSize - 23;
  const bool last_of_page = slot % (kSlotsPerPage - 1) == kSlotsPerPage - 2;
  if (last_of_page) at = slot_of(slot) + kSlotSize - random.between(1, 16);
  start.rip = mode == Mode::Bits16 ? at - kCodeBase : at;
  start.rflags = flags(random);
  start.fpu = fpu(random);
  for (x86::Ymm& ymm : start.ymm) ymm = vector(random);
  // In the first slot of the page, which is nobody's.
  const std::uint64_t halts = align_down(start.rip, 4096) + 64;
  for (std::uint64_t& gpr : start.gpr) {
    const std::uint64_t choice = random.below(20);
    gpr = choice < 12   ? integer(random)
          : choice < 17 ? data_address(random, 16)
          : choice < 18 ? selector(random)
                        : halts;
    if (mode != Mode::Bits64) gpr &= 0xFFFF'FFFF;
  }
  Draft draft{random, made, mode, at};
  std::uint64_t& rsp = start.gpr[x86::kRsp];
  if (draft.random.percent(90))
    rsp = kDataBase + 4096 + 8 * draft.random.below(64) - (mode == Mode::Bits64 ? 0 : segment_base(start.ss));
  if (mode != Mode::Bits64) rsp &= 0xFFFF'FFFF;
  if (draft.small_stack()) rsp = kUpperSp | (rsp & 0xFFFF);

  const std::uint64_t length = draft.random.below(100);
  const std::uint64_t count = length < 60 ? 1 : length < 85 ? draft.random.between(2, 3) : draft.random.between(4, 8);
  const std::uint64_t most = last_of_page ? 3 : count;
  while (made.instructions.size() < std::min(count, most) && (last_of_page || draft.at < limit)) add_instruction(draft);
  aim_branches(draft.random, made);
}

}  // namespace doppel::fuzz_isa
