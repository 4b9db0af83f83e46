#include "engine/direct/copier.h"

#include <algorithm>
#include <array>

#include "engine/direct/gs.h"
#include "isa/insn_queries.h"
#include "isa/op_table.h"

namespace doppel::engine::direct {

namespace host = asmjit::x86;
using asmjit::Label;
using asmjit::x86::CondCode;
using dbt::CodeOffset;
using dbt::HostOperands;
using dbt::HostReg;
using dbt::Site;
using dbt::SourceInsn;
using isa::Insn;
using isa::Operand;
using isa::OperandKind;
using isa::Unit;
using x86::SegReg;

namespace {

constexpr std::int64_t kPage = memory::kPageSize;

/// In the order of the encoding.
constexpr std::array kConditions{CondCode::kO, CondCode::kNO, CondCode::kB,  CondCode::kNB,
                                 CondCode::kZ, CondCode::kNZ, CondCode::kBE, CondCode::kNBE,
                                 CondCode::kS, CondCode::kNS, CondCode::kP,  CondCode::kNP,
                                 CondCode::kL, CondCode::kNL, CondCode::kLE, CondCode::kNLE};

/// Whether Copier::Literal can say it.
bool fits(std::int64_t page_offset) {
  return page_offset == static_cast<std::int32_t>(page_offset);
}

/// Whether the host knows another instruction by these bytes than a guest whose processor lacks it.
bool is_read_otherwise(const SourceInsn& source) {
  const ZydisMnemonic mnemonic = source.insn.mnemonic;
  return (mnemonic == ZYDIS_MNEMONIC_BSF || mnemonic == ZYDIS_MNEMONIC_BSR) && source.encoding.repeat != 0;
}

/// One of R8 to R15 that the instruction does not name; no instruction means one of them without naming it.
HostReg unused_register(const Insn& insn) {
  constexpr std::array<HostReg, 5> kCandidates{11, 10, 9, 8, 15};
  for (const HostReg candidate : kCandidates) {
    const auto* end = insn.op.begin() + insn.operand_count;
    const bool used = std::any_of(insn.op.begin(), end, [candidate](const Operand& operand) {
      return operand.kind == OperandKind::Gpr && operand.reg == candidate;
    });
    if (!used) return candidate;
  }
  return dbt::kNoHostReg;
}

/// Loads that set all of a general register: its address can be made there.
bool replaces_register(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
      return insn.op[0].kind == OperandKind::Gpr && insn.op[0].size >= 4;
    default:
      return false;
  }
}

/// Of those that other engines execute otherwise than by the host's instruction.
bool is_as_on_host(const Insn& insn) {
  if (insn.string) {
    switch (insn.mnemonic) {
      case ZYDIS_MNEMONIC_INSB:
      case ZYDIS_MNEMONIC_INSW:
      case ZYDIS_MNEMONIC_INSD:
      case ZYDIS_MNEMONIC_OUTSB:
      case ZYDIS_MNEMONIC_OUTSW:
      case ZYDIS_MNEMONIC_OUTSD:
        return false;
      default:
        return true;
    }
  }
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
      return insn.op[0].kind != OperandKind::Segment;
    case ZYDIS_MNEMONIC_LEAVE:
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_PREFETCH:
    case ZYDIS_MNEMONIC_PREFETCHNTA:
    case ZYDIS_MNEMONIC_PREFETCHT0:
    case ZYDIS_MNEMONIC_PREFETCHT1:
    case ZYDIS_MNEMONIC_PREFETCHT2:
    case ZYDIS_MNEMONIC_PREFETCHW:
    case ZYDIS_MNEMONIC_LFENCE:
    case ZYDIS_MNEMONIC_MFENCE:
    case ZYDIS_MNEMONIC_SFENCE:
    case ZYDIS_MNEMONIC_PAUSE:
    case ZYDIS_MNEMONIC_CLD:
    case ZYDIS_MNEMONIC_STD:
    case ZYDIS_MNEMONIC_CLC:
    case ZYDIS_MNEMONIC_STC:
    case ZYDIS_MNEMONIC_CMC:
    case ZYDIS_MNEMONIC_LAHF:
    case ZYDIS_MNEMONIC_SAHF:
    case ZYDIS_MNEMONIC_XLAT:
    case ZYDIS_MNEMONIC_STMXCSR:
    case ZYDIS_MNEMONIC_VSTMXCSR:
    case ZYDIS_MNEMONIC_VZEROUPPER:
    case ZYDIS_MNEMONIC_VZEROALL:
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
    case ZYDIS_MNEMONIC_VGATHERDPS:
    case ZYDIS_MNEMONIC_VGATHERDPD:
    case ZYDIS_MNEMONIC_VGATHERQPS:
    case ZYDIS_MNEMONIC_VGATHERQPD:
    case ZYDIS_MNEMONIC_VPGATHERDD:
    case ZYDIS_MNEMONIC_VPGATHERDQ:
    case ZYDIS_MNEMONIC_VPGATHERQD:
    case ZYDIS_MNEMONIC_VPGATHERQQ:
      return true;
    default:
      return false;
  }
}

}  // namespace

void Copier::Lists::clear() {
  sites.clear();
  marks.clear();
  inexact.clear();
  literals.clear();
  returns.clear();
}

void Copier::mark(std::uint16_t page_offset) {
  marks_.push_back({here(), page_offset});
}

void Copier::add_inexact(CodeOffset begin, Inexact kind) {
  kind.begin = begin;
  kind.end = here();
  inexact_.push_back(kind);
}

std::uint32_t Copier::add_site() {
  Site site;
  site.page_offset = page_offset_;
  sites_.push_back(site);
  return static_cast<std::uint32_t>(sites_.size() - 1);
}

void Copier::set_target(Site& site, std::int64_t target) {
  if (target >= 0 && target < kPage) {
    site.target = static_cast<std::uint16_t>(target);
  } else {
    site.far_target = static_cast<std::uint64_t>(target);
  }
}

/// In eight bytes always, since the page may move.
void Copier::load_address(unsigned reg, std::int64_t page_offset) {
  a_.movabs(host::gpq(reg), linear(page_offset));
  const auto at = static_cast<CodeOffset>(here() - sizeof(std::uint64_t));
  literals_.push_back({at, static_cast<std::int32_t>(page_offset)});
}

/// To the monitor.
void Copier::leave(std::uint32_t site) {
  a_.mov(gs(offsetof(Shared, site), 4), first_site_ + site);
  a_.jmp(reinterpret_cast<std::uint64_t>(stub_.exit));
}

bool Copier::instruction(const SourceInsn& source) {
  page_offset_ = source.offset;
  next_offset_ = static_cast<std::uint16_t>(source.offset + source.insn.length);
  mark(page_offset_);
  const Insn& insn = source.insn;
  bool more = false, done = false;
  if (isa::op_class(insn) == isa::OpClass::HostAlu || is_as_on_host(insn)) {
    done = more = copy(source);
  } else if (isa::op_class(insn) == isa::OpClass::Cpp && !insn.string && insn.operand_size != 2 && !insn.far_branch) {
    more = isa::jump_condition(insn.mnemonic).has_value();
    done = branch(source);
  }
  if (!done) leave(add_site());
  return done && more;
}

/// Where neither the address nor the unit is anything that the host sees otherwise.
bool Copier::copy(const SourceInsn& source) {
  const Insn& insn = source.insn;
  switch (insn.unit) {
    case Unit::X87:
    case Unit::Mmx:
      if (!mode_.x87) return false;
      break;
    case Unit::Sse:
      if (!mode_.sse) return false;
      break;
    case Unit::Avx:
      if (!mode_.avx) return false;
      break;
    case Unit::Integer:
      break;
  }
  if (insn.mem.segment == SegReg::Gs || is_read_otherwise(source)) return false;
  if (insn.mem.base == isa::kRipRegister) return copy_relative(source);
  a_.embed(source.bytes.data(), insn.length);
  return true;
}

/// An operand at an address relative to RIP, by way of a register.
bool Copier::copy_relative(const SourceInsn& source) {
  const Insn& insn = source.insn;
  if (insn.mem.address_size != 8 || insn.mem.segment == SegReg::Fs) return false;
  const std::int64_t address = std::int64_t{next_offset_} + insn.mem.displacement;
  if (!fits(address)) return false;
  if (insn.mnemonic == ZYDIS_MNEMONIC_LEA) {
    const Operand& target = insn.op[0];
    if (target.size != 8) return false;
    load_address(target.reg, address);
    return true;
  }
  const bool replaced = replaces_register(insn) && insn.op[0].reg != x86::kRsp;
  const HostReg scratch = replaced ? insn.op[0].reg : unused_register(insn);
  if (scratch == dbt::kNoHostReg) return false;
  HostOperands operands;
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const Operand& operand = insn.op[i];
    if (operand.kind == OperandKind::Gpr || operand.kind == OperandKind::GprHigh) operands.reg[i] = operand.reg;
  }
  operands.memory = {scratch, dbt::kNoHostReg, 0};
  std::array<std::byte, dbt::kMaxReencoded> bytes;
  const std::size_t length = dbt::reencode(source, operands, bytes);
  if (length == 0) return false;
  a_.mov(gs(offsetof(Shared, spill)), host::gpq(scratch));
  load_address(scratch, address);
  const CodeOffset begin = here();
  a_.embed(bytes.data(), length);
  add_inexact(begin, {.begin = 0, .end = 0, .spilled = {scratch, Inexact::kExact}});
  if (replaced) return true;
  const CodeOffset end = here();
  mark(next_offset_);
  a_.mov(host::gpq(scratch), gs(offsetof(Shared, spill)));
  add_inexact(end, {.begin = 0, .end = 0, .spilled = {scratch, Inexact::kExact}});
  return true;
}

/// The near ones.
bool Copier::branch(const SourceInsn& source) {
  const Insn& insn = source.insn;
  const std::int64_t target = std::int64_t{next_offset_} + static_cast<std::int64_t>(insn.imm[0]);
  if (const std::optional<unsigned> condition = isa::jump_condition(insn.mnemonic)) {
    conditional(source, *condition);
    return true;
  }
  const bool relative = insn.operand_count != 0 && insn.op[0].kind == OperandKind::Relative;
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_JMP:
      if (!relative) return indirect(source);
      chain(target);
      return true;
    case ZYDIS_MNEMONIC_CALL:
      if (!relative) return indirect(source);
      call(target);
      return true;
    case ZYDIS_MNEMONIC_RET:
      return indirect(source);
    default:
      return false;
  }
}

void Copier::conditional(const SourceInsn& source, unsigned condition) {
  const SideExit exit{a_.newLabel(), add_site()};
  a_.long_().j(kConditions[condition], exit.entry);
  sites_[exit.site].jump = here();
  set_target(sites_[exit.site], std::int64_t{next_offset_} + static_cast<std::int64_t>(source.insn.imm[0]));
  side_exits_.push_back(exit);
}

/// To a place relative to the page, by way of the monitor once.
void Copier::chain(std::int64_t target) {
  const SideExit exit{a_.newLabel(), add_site()};
  const CodeOffset begin = here();
  a_.long_().jmp(exit.entry);
  sites_[exit.site].jump = here();
  set_target(sites_[exit.site], target);
  add_inexact(begin, {.begin = 0, .end = 0, .at = Inexact::At::Target, .site = static_cast<std::uint16_t>(exit.site)});
  side_exits_.push_back(exit);
}

void Copier::push_return_address() {
  const Constant constant{a_.newLabel(), next_offset_};
  if (next_offset_ < kPage) returns_.push_back(next_offset_);
  a_.push(host::qword_ptr(constant.at));
  constants_.push_back(constant);
}

void Copier::call(std::int64_t target) {
  push_return_address();
  chain(target);
}

/// A jump, call or return to an address that comes from a register or memory, by way of the jump table. What is not
/// found there the monitor executes, with nothing changed.
bool Copier::indirect(const SourceInsn& source) {
  const Insn& insn = source.insn;
  const bool is_return = insn.mnemonic == ZYDIS_MNEMONIC_RET;
  const Operand& operand = insn.op[0];
  host::Mem from;
  if (is_return) {
    from = host::qword_ptr(host::rsp);
  } else if (operand.kind == OperandKind::Memory) {
    const isa::MemoryOperand& mem = insn.mem;
    if (mem.segment == SegReg::Gs || mem.address_size != 8) return false;
    if (mem.base != isa::kRipRegister) {
      if (mem.displacement != static_cast<std::int32_t>(mem.displacement)) return false;
      const auto displacement = static_cast<std::int32_t>(mem.displacement);
      const unsigned shift = mem.scale == 8 ? 3 : mem.scale == 4 ? 2 : mem.scale == 2 ? 1 : 0;
      const bool based = mem.base != isa::kNoRegister, indexed = mem.index != isa::kNoRegister;
      const std::uint64_t absolute = static_cast<std::uint64_t>(std::int64_t{displacement});
      if (based) {
        from = indexed ? host::qword_ptr(host::gpq(mem.base), host::gpq(mem.index), shift, displacement)
                       : host::qword_ptr(host::gpq(mem.base), displacement);
      } else {
        from = indexed ? host::qword_ptr(absolute, host::gpq(mem.index), shift) : host::qword_ptr(absolute);
        if (!indexed) from.setAbs();
      }
      if (mem.segment == SegReg::Fs) from.setSegment(host::fs);
    } else if (mem.segment == SegReg::Fs || !fits(std::int64_t{next_offset_} + mem.displacement)) {
      return false;
    }
  } else if (operand.kind != OperandKind::Gpr) {
    return false;
  }

  constexpr std::size_t kRcxAt = offsetof(Shared, spill), kR11At = kRcxAt + 8;
  a_.mov(gs(kRcxAt), host::rcx);
  a_.mov(gs(kR11At), host::r11);
  CodeOffset begin = 0;
  if (!is_return && operand.kind == OperandKind::Gpr) {
    a_.mov(host::r11, host::gpq(operand.reg));
    begin = here();
  } else if (!is_return && insn.mem.base == isa::kRipRegister) {
    load_address(x86::kR11, std::int64_t{next_offset_} + insn.mem.displacement);
    begin = here();
    a_.mov(host::r11, host::qword_ptr(host::r11));
  } else {
    a_.mov(host::r11, from);
    begin = here();
  }
  const host::Mem mask = gs(Layout::kJumps + offsetof(Jumps, mask));
  const auto entry = [](std::size_t field) {
    host::Mem mem = gs(Layout::kJumps + offsetof(Jumps, entries) + field);
    mem.setIndex(host::rcx, 3);
    return mem;
  };
  const Label found = a_.newLabel(), found_second = a_.newLabel(), go = a_.newLabel();
  const auto first_place = [&] { a_.pdep(host::rcx, host::r11, mask); };
  const auto second_place = [&] {
    a_.rorx(host::rcx, host::r11, dbt::JumpTable::kSecondRotation);
    a_.lea(host::rcx, host::ptr(host::rcx, host::r11));
    a_.pdep(host::rcx, host::rcx, mask);
  };
  const auto compare = [&](const Label& same) {
    a_.mov(host::rcx, entry(offsetof(dbt::JumpTable::Entry, negated_address)));
    a_.lea(host::rcx, host::ptr(host::rcx, host::r11));
    a_.short_().jecxz(host::rcx, same);
  };
  first_place();
  compare(found);
  second_place();
  compare(found_second);
  a_.mov(host::r11, gs(kR11At));
  a_.mov(host::rcx, gs(kRcxAt));
  constexpr std::array<std::uint8_t, 2> kSpilled{x86::kRcx, x86::kR11};
  add_inexact(begin, {.begin = 0, .end = 0, .spilled = kSpilled});
  const std::uint32_t missed = add_site();
  sites_[missed].indirect = true;
  leave(missed);
  begin = here();
  a_.bind(found_second);
  second_place();
  a_.short_().jmp(go);
  a_.bind(found);
  first_place();
  a_.bind(go);
  a_.mov(host::r11, entry(offsetof(dbt::JumpTable::Entry, code)));
  a_.mov(gs(offsetof(Shared, jump)), host::r11);
  a_.mov(host::r11, gs(kR11At));
  a_.mov(host::rcx, gs(kRcxAt));
  add_inexact(begin, {.begin = 0, .end = 0, .spilled = kSpilled});
  if (is_return) {
    const bool more = insn.operand_count != 0 && operand.kind == OperandKind::Immediate;
    a_.lea(host::rsp, host::ptr(host::rsp, static_cast<std::int32_t>(8 + (more ? insn.imm[0] & 0xFFFF : 0))));
  } else if (insn.mnemonic == ZYDIS_MNEMONIC_CALL) {
    push_return_address();
  }
  begin = here();
  a_.jmp(gs(offsetof(Shared, jump)));
  add_inexact(begin, {.begin = 0, .end = 0, .at = Inexact::At::Jump});
  return true;
}

void Copier::fall_through(std::uint16_t page_offset) {
  page_offset_ = next_offset_ = page_offset;
  mark(page_offset);
  chain(page_offset);
}

void Copier::finish() {
  for (const SideExit& exit : side_exits_) {
    a_.bind(exit.entry);
    const CodeOffset begin = here();
    sites_[exit.site].resume = begin;
    leave(exit.site);
    add_inexact(begin,
                {.begin = 0, .end = 0, .at = Inexact::At::Target, .site = static_cast<std::uint16_t>(exit.site)});
  }
  constexpr std::uint32_t kAlignment = 8;
  if (!constants_.empty()) a_.align(asmjit::AlignMode::kData, kAlignment);
  for (const Constant& constant : constants_) {
    a_.bind(constant.at);
    literals_.push_back({here(), static_cast<std::int32_t>(constant.page_offset)});
    a_.embedUInt64(linear(constant.page_offset));
  }
}

}  // namespace doppel::engine::direct
