#include "engine/dbt/access_groups.h"

#include <algorithm>

#include "isa/insn_queries.h"
#include "isa/op_table.h"

namespace doppel::engine::dbt {

namespace {

using isa::Insn;
using isa::OpClass;
using isa::Operand;
using isa::OperandKind;

/// The farther apart, the likelier in two pages.
constexpr std::int64_t kMostBytes = 192;
constexpr std::int64_t kStackBytes = 8;

/// What is known of a register: a number that stands for an unknown value, and a distance from that.
struct Value {
  std::uint32_t number = 0;
  std::int64_t offset = 0;
};

/// Instructions of the host class that change no general register but the operands that they name.
bool names_all_it_writes(const Insn& insn) {
  if (insn.unit != isa::Unit::Integer) return !isa::leaves_index_in_ecx(insn.mnemonic);
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
    case ZYDIS_MNEMONIC_LEA:
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_DEC:
    case ZYDIS_MNEMONIC_NEG:
    case ZYDIS_MNEMONIC_NOT:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
      return true;
    default:
      // Sums may be left in rdx:rax.
      return isa::jump_condition(insn.mnemonic).has_value();
  }
}

class Analysis {
 public:
  struct Access {
    std::size_t insn;
    bool stack;
    std::uint32_t group;
    std::int64_t base;  ///< offset of its base register
  };
  struct Found {
    std::uint32_t number;
    std::int64_t low, high;
    bool writes;
    unsigned count;
  };

  explicit Analysis(std::pmr::memory_resource* scratch) : accesses(scratch), found(scratch) { forget_all(); }

  void read(std::size_t index, const SourceInsn& source) {
    const Insn& insn = source.insn;
    const OpClass op_class = isa::op_class(insn);
    if (op_class == OpClass::HostAlu && !insn.string) {
      memory_access(index, source);
      follow(source);
      return;
    }
    if (op_class != OpClass::Cpp || !stack_or_branch(index, source)) forget_all();
  }

  std::pmr::vector<Access> accesses;
  std::pmr::vector<Found> found;

 private:
  void forget(unsigned reg) { value_[reg] = {next_number_++, 0}; }
  void forget_all() {
    for (unsigned reg = 0; reg < value_.size(); ++reg) forget(reg);
  }
  Value& rsp() { return value_[x86::kRsp]; }

  void add(std::size_t index, bool stack, Value base, std::int64_t displacement, std::int64_t bytes, bool writes) {
    const std::int64_t low = base.offset + displacement, high = low + bytes;
    auto at = std::find_if(found.begin(), found.end(), [&](const Found& group) {
      return group.number == base.number && std::max(group.high, high) - std::min(group.low, low) <= kMostBytes;
    });
    if (at == found.end()) at = found.insert(at, {base.number, low, high, false, 0});
    at->low = std::min(at->low, low);
    at->high = std::max(at->high, high);
    at->writes |= writes;
    ++at->count;
    accesses.push_back({index, stack, static_cast<std::uint32_t>(at - found.begin()), base.offset});
  }

  /// The register and displacement of [register + displacement]; relative to the page, for what is relative to RIP.
  static bool is_simple(const SourceInsn& source, unsigned& base, std::int64_t& displacement) {
    const isa::MemoryOperand& mem = source.insn.mem;
    if (mem.gather || mem.address_size != 8 || mem.index != isa::kNoRegister || mem.base == isa::kNoRegister)
      return false;
    base = mem.base;
    displacement = mem.displacement;
    if (base == isa::kRipRegister) displacement += source.offset + source.insn.length;
    return true;
  }

  void memory_access(std::size_t index, const SourceInsn& source) {
    const Operand* operand = isa::memory_operand(source.insn);
    const x86::SegReg segment = source.insn.mem.segment;
    unsigned base = 0;
    std::int64_t displacement = 0;
    if (operand == nullptr || source.insn.mnemonic == ZYDIS_MNEMONIC_LEA || segment == x86::SegReg::Fs ||
        segment == x86::SegReg::Gs || isa::is_bit_string(source.insn) || !is_simple(source, base, displacement))
      return;
    add(index, false, value_[base], displacement, operand->size, operand->written);
  }

  /// What an instruction of the host class does to the registers.
  void follow(const SourceInsn& source) {
    const Insn& insn = source.insn;
    const Operand& target = insn.op[0];
    const Operand& from = insn.op[1];
    const bool whole = insn.operand_count != 0 && target.kind == OperandKind::Gpr && target.size == 8;
    const std::array<Value, 17> before = value_;
    for (unsigned i = 0; i < insn.operand_count; ++i) {
      const Operand& operand = insn.op[i];
      if (operand.written && (operand.kind == OperandKind::Gpr || operand.kind == OperandKind::GprHigh))
        forget(operand.reg);
    }
    if (!names_all_it_writes(insn)) {
      for (const unsigned reg : {x86::kRax, x86::kRcx, x86::kRdx}) forget(reg);
      return;
    }
    if (!whole) return;
    const auto moved = [&](unsigned reg, std::int64_t by) {
      value_[target.reg] = {before[reg].number, before[reg].offset + by};
    };
    unsigned base = 0;
    std::int64_t displacement = 0;
    switch (insn.mnemonic) {
      case ZYDIS_MNEMONIC_MOV:
        if (from.kind == OperandKind::Gpr) moved(from.reg, 0);
        break;
      case ZYDIS_MNEMONIC_LEA:
        if (is_simple(source, base, displacement)) moved(base, displacement);
        break;
      case ZYDIS_MNEMONIC_ADD:
        if (from.kind == OperandKind::Immediate) moved(target.reg, static_cast<std::int64_t>(insn.imm[from.reg]));
        break;
      case ZYDIS_MNEMONIC_SUB:
        if (from.kind == OperandKind::Immediate) moved(target.reg, -static_cast<std::int64_t>(insn.imm[from.reg]));
        break;
      case ZYDIS_MNEMONIC_INC:
        moved(target.reg, 1);
        break;
      case ZYDIS_MNEMONIC_DEC:
        moved(target.reg, -1);
        break;
      default:
        break;
    }
  }

  /// False for what is not translated as one of these.
  bool stack_or_branch(std::size_t index, const SourceInsn& source) {
    const Insn& insn = source.insn;
    const Operand& operand = insn.op[0];
    if (isa::jump_condition(insn.mnemonic)) return true;
    switch (insn.mnemonic) {
      case ZYDIS_MNEMONIC_NOP:
      case ZYDIS_MNEMONIC_PREFETCHT0:
        return true;
      case ZYDIS_MNEMONIC_JMP:
        if (operand.kind == OperandKind::Memory) memory_access(index, source);
        return true;
      case ZYDIS_MNEMONIC_PUSH:
      case ZYDIS_MNEMONIC_CALL:
        if (insn.operand_size != kStackBytes || insn.far_branch || operand.kind == OperandKind::Segment) return false;
        if (operand.kind == OperandKind::Memory) memory_access(index, source);
        add(index, true, rsp(), -kStackBytes, kStackBytes, true);
        rsp().offset -= kStackBytes;
        return true;
      case ZYDIS_MNEMONIC_POP:
        if (insn.operand_size != kStackBytes || operand.kind != OperandKind::Gpr) return false;
        add(index, true, rsp(), 0, kStackBytes, false);
        rsp().offset += kStackBytes;
        forget(operand.reg);
        return true;
      case ZYDIS_MNEMONIC_RET:
        if (insn.operand_size != kStackBytes || insn.far_branch) return false;
        add(index, true, rsp(), 0, kStackBytes, false);
        return true;
      case ZYDIS_MNEMONIC_LEAVE:
        if (insn.operand_size != kStackBytes) return false;
        add(index, true, value_[x86::kRbp], 0, kStackBytes, false);
        rsp() = value_[x86::kRbp];
        rsp().offset += kStackBytes;
        forget(x86::kRbp);
        return true;
      default:
        return false;
    }
  }

  /// Of the general registers, and at isa::kRipRegister of the block's page.
  std::array<Value, 17> value_{};
  std::uint32_t next_number_ = 0;
};

}  // namespace

AccessGroups::AccessGroups(std::span<const SourceInsn> insns, std::pmr::memory_resource* scratch) : members_(scratch) {
  Analysis analysis(scratch);
  for (std::size_t i = 0; i < insns.size(); ++i) analysis.read(i, insns[i]);
  std::pmr::vector<std::uint8_t> number(analysis.found.size(), kNone, scratch);
  std::uint8_t next = 0;
  for (std::size_t i = 0; i < number.size() && next < kMost; ++i) {
    const Analysis::Found& found = analysis.found[i];
    if (found.count < 2) continue;
    groups_[next] = {static_cast<std::int32_t>(found.high - found.low), found.writes};
    number[i] = next++;
  }
  if (next == 0) return;
  members_.resize(insns.size());
  for (const Analysis::Access& access : analysis.accesses) {
    if (number[access.group] == kNone) continue;
    const std::int64_t low = analysis.found[access.group].low - access.base;
    if (low != static_cast<std::int32_t>(low)) continue;
    Members& members = members_[access.insn];
    (access.stack ? members.stack : members.memory) = {number[access.group], static_cast<std::int32_t>(low)};
  }
}

}  // namespace doppel::engine::dbt
