#include <array>
#include <utility>

#include "engine/dbt/emitter.h"
#include "engine/dbt/jump_look_up.h"
#include "isa/insn_queries.h"

/// Branches and the stack.
namespace doppel::engine::dbt {

namespace host = asmjit::x86;
using asmjit::x86::CondCode;
using isa::Insn;
using isa::OperandKind;

namespace {

constexpr std::int64_t kPage = memory::kPageSize;

/// In the order of the encoding.
constexpr std::array kConditions{CondCode::kO, CondCode::kNO, CondCode::kB,  CondCode::kNB,
                                 CondCode::kZ, CondCode::kNZ, CondCode::kBE, CondCode::kNBE,
                                 CondCode::kS, CondCode::kNS, CondCode::kP,  CondCode::kNP,
                                 CondCode::kL, CondCode::kNL, CondCode::kLE, CondCode::kNLE};

}  // namespace

Emitter::Next Emitter::branch(const SourceInsn& source) {
  const Insn& insn = source.insn;
  const bool narrow = insn.operand_size == 2;
  if (insn.string) return string(source);
  if (const std::optional<unsigned> condition = isa::jump_condition(insn.mnemonic))
    return narrow ? Next::Untranslated : conditional(source, *condition);
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_JMP:
      return narrow ? Next::Untranslated : jump(source);
    case ZYDIS_MNEMONIC_CALL:
      return narrow ? Next::Untranslated : call(source);
    case ZYDIS_MNEMONIC_RET:
      return narrow ? Next::Untranslated : ret(source);
    case ZYDIS_MNEMONIC_PUSH:
      return insn.operand_size == stack_size() ? push(source) : Next::Untranslated;
    case ZYDIS_MNEMONIC_POP:
      return insn.operand_size == stack_size() ? pop(source) : Next::Untranslated;
    case ZYDIS_MNEMONIC_LEAVE:
      if (insn.operand_size != stack_size()) return Next::Untranslated;
      leave();
      return Next::Continue;
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_PREFETCH:
    case ZYDIS_MNEMONIC_PREFETCHNTA:
    case ZYDIS_MNEMONIC_PREFETCHT0:
    case ZYDIS_MNEMONIC_PREFETCHT1:
    case ZYDIS_MNEMONIC_PREFETCHT2:
    case ZYDIS_MNEMONIC_PREFETCHW:
      return Next::Continue;
    case ZYDIS_MNEMONIC_LFENCE:
      a_.lfence();
      return Next::Continue;
    case ZYDIS_MNEMONIC_MFENCE:
      a_.mfence();
      return Next::Continue;
    case ZYDIS_MNEMONIC_SFENCE:
      a_.sfence();
      return Next::Continue;
    case ZYDIS_MNEMONIC_VZEROUPPER:
      // The host would clear the registers that 32-bit code cannot name, too.
      if (!mode_.avx || !mode_.code_64) return Next::Untranslated;
      a_.vzeroupper();
      return Next::Continue;
    default:
      return Next::Untranslated;
  }
}

Emitter::Next Emitter::conditional(const SourceInsn& source, unsigned condition) {
  const std::int64_t target = std::int64_t{next_offset_} + static_cast<std::int64_t>(source.insn.imm[0]);
  SideExit exit;
  exit.entry = a_.newLabel();
  exit.target = target;
  exit.linked = linkable(target);
  if (exit.linked && target <= page_offset_) poll();
  exit.site = add_site();
  a_.long_().j(kConditions[condition], exit.entry);
  sites_[exit.site].jump = here();
  set_target(sites_[exit.site], target);
  side_exits_.push_back(exit);
  return Next::Continue;
}

/// Whether a jump to a place relative to the page may lead straight to its block.
bool Emitter::linkable(std::int64_t target) const {
  return (target >= 0 && target < kPage) || (mode_.far_links && mode_.code_64);
}

void Emitter::set_target(Site& site, std::int64_t target) const {
  if (target >= 0 && target < kPage) {
    site.target = static_cast<std::uint16_t>(target);
  } else {
    site.far_target = mode_.linear_page + static_cast<std::uint64_t>(target);
  }
}

/// To a place relative to the page: linked or looked up.
void Emitter::jump_to(std::int64_t target) {
  keep_islands_in_reach();
  if (linkable(target)) {
    if (target <= page_offset_) poll();
    return chain(target);
  }
  load_linear(host::r11, target);
  look_up_jump();
}

void Emitter::chain(std::int64_t target) {
  const std::uint32_t site = add_site();
  const Label out = a_.newLabel();
  a_.long_().jmp(out);
  sites_[site].jump = here();
  set_target(sites_[site], target);
  a_.bind(out);
  sites_[site].resume = here();
  call_out(ExitReason::Chain, site);
}

/// To the guest address in r11. Finds nothing while something waits for the vCPU, so it needs no poll().
void Emitter::look_up_jump() {
  keep_islands_in_reach();
  emit_jump_look_up(a_, mode_.user, [this] { call_unnumbered(trampolines_.not_found[mode_.user], add_site()); });
}

/// Looks up the place below the stack pointer. Its linear address is in r11, or off r10.
Emitter::Access Emitter::write_stack() {
  const unsigned size = stack_size();
  const auto below = -static_cast<std::int32_t>(size);
  if (const AccessGroups::Member member = groups_.stack(index_); member.group != AccessGroups::kNone)
    return grouped(member, x86::kRsp, below);
  const Label retry = a_.newLabel();
  a_.bind(retry);
  a_.lea(reg(kHostR11, size), host::ptr(host::r10, below));
  look_up(kHostR11, size, Kind::Write, true, retry);
  return {kHostR11, 0};
}

/// Looks up what the stack pointer, or the frame pointer, points to.
Emitter::Access Emitter::read_stack(unsigned base) {
  const unsigned size = stack_size();
  if (const AccessGroups::Member member = groups_.stack(index_); member.group != AccessGroups::kNone)
    return grouped(member, base, 0);
  const Label retry = a_.newLabel();
  a_.bind(retry);
  HostReg linear = host_of(base);
  if (!mode_.code_64) a_.mov(host::r11d, reg(std::exchange(linear, kHostR11), 4));
  look_up(linear, size, Kind::Read, true, retry);
  return {linear, 0};
}

Emitter::Next Emitter::push(const SourceInsn& source) {
  const isa::Operand& operand = source.insn.op[0];
  const unsigned size = stack_size();
  switch (operand.kind) {
    case OperandKind::Gpr: {
      const Access at = write_stack();
      if (is_slot(operand.reg)) {
        a_.lea(host::rcx, at.operand(8));
        a_.mov(host::r11, slot(operand.reg));
        a_.mov(host::qword_ptr(host::rcx), host::r11);
        kept_ = AccessGroups::kNone;
        break;
      }
      a_.mov(at.operand(size), reg(host_of(operand.reg), size));
      break;
    }
    case OperandKind::Immediate:
      a_.mov(write_stack().operand(size), static_cast<std::int32_t>(source.insn.imm[operand.reg]));
      break;
    case OperandKind::Memory: {
      if (!load_operand(source)) return Next::Untranslated;
      a_.mov(env(DOPPEL_ENV(value)), host::r11);
      held_ = kept_;
      a_.lea(host::r11, write_stack().operand(8));
      a_.mov(host::rcx, env(DOPPEL_ENV(value)));
      a_.mov(Mem(host::r11, 0, size), reg(kHostRcx, size));
      kept_ = AccessGroups::kNone;
      break;
    }
    default:
      return Next::Untranslated;
  }
  a_.lea(reg(kHostR10, size), host::ptr(host::r10, -static_cast<std::int32_t>(size)));
  return Next::Continue;
}

Emitter::Next Emitter::pop(const SourceInsn& source) {
  const isa::Operand& operand = source.insn.op[0];
  const unsigned size = stack_size();
  if (operand.kind != OperandKind::Gpr) return Next::Untranslated;
  const Mem top = read_stack(x86::kRsp).operand(size);
  if (is_slot(operand.reg)) {
    a_.mov(host::rcx, top);
    a_.mov(slot(operand.reg), host::rcx);
    kept_ = AccessGroups::kNone;
  } else {
    a_.mov(reg(host_of(operand.reg), size), top);
  }
  if (operand.reg != x86::kRsp) a_.lea(reg(kHostR10, size), host::ptr(host::r10, static_cast<std::int32_t>(size)));
  return Next::Continue;
}

void Emitter::leave() {
  const unsigned size = stack_size();
  const Access at = read_stack(x86::kRbp);
  // The access may fault, so nothing is changed before it.
  a_.mov(reg(kHostRcx, size), at.operand(size));
  kept_ = AccessGroups::kNone;
  a_.lea(reg(kHostR10, size), host::ptr(reg(at.linear, 8), static_cast<std::int32_t>(size)));
  a_.mov(reg(x86::kRbp, size), reg(kHostRcx, size));
}

/// Loads the operand of a push or an indirect branch into r11.
bool Emitter::load_operand(const SourceInsn& source) {
  const isa::Operand& operand = source.insn.op[0];
  const unsigned size = stack_size();
  if (operand.kind == OperandKind::Gpr) {
    load_gpr(host::r11, operand.reg);
    if (size == 4) a_.mov(host::r11d, host::r11d);
    return true;
  }
  Access at;
  if (operand.kind != OperandKind::Memory || !access(source, size, Kind::Read, true, at)) return false;
  a_.mov(reg(kHostR11, size), at.operand(size));
  keep_islands_in_reach();
  return true;
}

Emitter::Next Emitter::call(const SourceInsn& source) {
  const isa::Operand& operand = source.insn.op[0];
  const unsigned size = stack_size();
  const bool relative = operand.kind == OperandKind::Relative;
  const bool by_memory = operand.kind == OperandKind::Memory;
  if (!relative && !by_memory && (operand.kind != OperandKind::Gpr || operand.reg == x86::kRsp))
    return Next::Untranslated;
  if (by_memory) {
    if (!load_operand(source)) return Next::Untranslated;
    a_.mov(env(DOPPEL_ENV(value)), host::r11);
    held_ = kept_;
  }
  const std::int64_t target = std::int64_t{next_offset_} + static_cast<std::int64_t>(source.insn.imm[0]);
  const bool linked = relative && linkable(target);
  const Access at = write_stack();
  if (at.linear == kHostR11) {
    a_.lea(host::r11, at.operand(8));
    load_linear(host::rcx, next_offset_);
    a_.mov(Mem(host::r11, 0, size), reg(kHostRcx, size));
  } else {
    load_linear(host::r11, next_offset_);
    a_.mov(at.operand(size), reg(kHostR11, size));
  }
  a_.lea(reg(kHostR10, size), host::ptr(host::r10, -static_cast<std::int32_t>(size)));
  keep_islands_in_reach();
  if (linked) {
    chain(target);
  } else {
    if (relative) {
      load_linear(host::r11, target);
    } else if (by_memory) {
      a_.mov(host::r11, env(DOPPEL_ENV(value)));
    } else {
      load_operand(source);
    }
    look_up_jump();
  }
  sites_.back().stack_change = -static_cast<std::int32_t>(size);
  return Next::End;
}

Emitter::Next Emitter::ret(const SourceInsn& source) {
  const unsigned size = stack_size();
  a_.mov(reg(kHostR11, size), read_stack(x86::kRsp).operand(size));
  const bool more = source.insn.operand_count != 0 && source.insn.op[0].kind == OperandKind::Immediate;
  const std::int32_t released = static_cast<std::int32_t>(size + (more ? source.insn.imm[0] & 0xFFFF : 0));
  a_.lea(reg(kHostR10, size), host::ptr(host::r10, released));
  look_up_jump();
  sites_.back().stack_change = released;
  return Next::End;
}

Emitter::Next Emitter::jump(const SourceInsn& source) {
  if (source.insn.op[0].kind == OperandKind::Relative) {
    jump_to(std::int64_t{next_offset_} + static_cast<std::int64_t>(source.insn.imm[0]));
    return Next::End;
  }
  if (!load_operand(source)) return Next::Untranslated;
  look_up_jump();
  return Next::End;
}

}  // namespace doppel::engine::dbt
