#include <array>

#include "engine/dbt/emitter.h"
#include "engine/dbt/views.h"
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
  sites_[exit.site].jump = static_cast<std::uint32_t>(a_.offset());
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
  load_linear(host::rcx, target);
  look_up_jump();
}

void Emitter::chain(std::int64_t target) {
  const std::uint32_t site = add_site();
  const Label out = a_.newLabel();
  a_.long_().jmp(out);
  sites_[site].jump = static_cast<std::uint32_t>(a_.offset());
  set_target(sites_[site], target);
  a_.bind(out);
  sites_[site].resume = static_cast<std::uint32_t>(a_.offset());
  call_out(ExitReason::Chain, site);
}

/// To the guest address in rcx. Finds nothing while something waits for the vCPU, so it needs no poll().
void Emitter::look_up_jump() {
  keep_islands_in_reach();
  call_unnumbered(trampolines_.look_up[mode_.user ? 1 : 0], add_site());
  a_.jmp(host::r11);
}

/// Looks up the place below the stack pointer: its linear address in r11, its distance to the host's in rcx.
void Emitter::write_stack(unsigned size) {
  const Label retry = a_.newLabel();
  a_.bind(retry);
  a_.lea(reg(kHostR11, stack_size()), host::ptr(host::r10, -static_cast<std::int32_t>(size)));
  look_up(kHostR11, size, Kind::Write, true, retry);
}

Emitter::Next Emitter::push(const SourceInsn& source) {
  const isa::Operand& operand = source.insn.op[0];
  const unsigned size = stack_size();
  switch (operand.kind) {
    case OperandKind::Gpr:
      write_stack(size);
      if (is_slot(operand.reg)) {
        a_.lea(host::rcx, host::ptr(host::r11, host::rcx));
        a_.mov(host::r11, slot(operand.reg));
        a_.mov(host::qword_ptr(host::rcx), host::r11);
        break;
      }
      a_.mov(Mem(host::r11, host::rcx, 0, 0, size), reg(host_of(operand.reg), size));
      break;
    case OperandKind::Immediate:
      write_stack(size);
      a_.mov(Mem(host::r11, host::rcx, 0, 0, size), static_cast<std::int32_t>(source.insn.imm[operand.reg]));
      break;
    case OperandKind::Memory: {
      Access at{};
      if (!access(source, size, Kind::Read, true, at)) return Next::Untranslated;
      a_.mov(reg(kHostRcx, size), Mem(reg(at.linear, 8), host::rcx, 0, 0, size));
      a_.mov(env(DOPPEL_ENV(value)), host::rcx);
      keep_islands_in_reach();
      write_stack(size);
      a_.lea(host::r11, host::ptr(host::r11, host::rcx));
      a_.mov(host::rcx, env(DOPPEL_ENV(value)));
      a_.mov(Mem(host::r11, 0, size), reg(kHostRcx, size));
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
  const Label retry = a_.newLabel();
  a_.bind(retry);
  HostReg linear = kHostR10;
  if (!mode_.code_64) a_.mov(reg(linear = kHostR11, 4), host::r10d);
  look_up(linear, size, Kind::Read, true, retry);
  const Mem top(reg(linear, 8), host::rcx, 0, 0, size);
  if (is_slot(operand.reg)) {
    a_.mov(host::rcx, top);
    a_.mov(slot(operand.reg), host::rcx);
  } else {
    a_.mov(reg(host_of(operand.reg), size), top);
  }
  if (operand.reg != x86::kRsp) a_.lea(reg(kHostR10, size), host::ptr(host::r10, static_cast<std::int32_t>(size)));
  return Next::Continue;
}

void Emitter::leave() {
  const unsigned size = stack_size();
  const Label retry = a_.newLabel();
  a_.bind(retry);
  a_.mov(reg(kHostR11, size), reg(x86::kRbp, size));
  look_up(kHostR11, size, Kind::Read, true, retry);
  a_.mov(reg(x86::kRbp, size), Mem(host::r11, host::rcx, 0, 0, size));
  a_.lea(reg(kHostR10, size), host::ptr(host::r11, static_cast<std::int32_t>(size)));
}

/// Leaves the operand of an indirect branch in Env::value.
bool Emitter::load_branch_target(const SourceInsn& source) {
  const isa::Operand& operand = source.insn.op[0];
  const unsigned size = stack_size();
  if (operand.kind == OperandKind::Gpr) {
    if (is_slot(operand.reg)) {
      a_.mov(host::rcx, slot(operand.reg));
    } else {
      a_.mov(reg(kHostRcx, size), reg(host_of(operand.reg), size));
    }
  } else {
    Access at{};
    if (operand.kind != OperandKind::Memory || !access(source, size, Kind::Read, true, at)) return false;
    a_.mov(reg(kHostRcx, size), Mem(reg(at.linear, 8), host::rcx, 0, 0, size));
  }
  a_.mov(env(DOPPEL_ENV(value)), host::rcx);
  keep_islands_in_reach();
  return true;
}

Emitter::Next Emitter::call(const SourceInsn& source) {
  const isa::Operand& operand = source.insn.op[0];
  const unsigned size = stack_size();
  const bool relative = operand.kind == OperandKind::Relative;
  if (!relative && !load_branch_target(source)) return Next::Untranslated;
  const std::int64_t target = std::int64_t{next_offset_} + static_cast<std::int64_t>(source.insn.imm[0]);
  const bool linked = relative && linkable(target);
  write_stack(size);
  a_.lea(host::r11, host::ptr(host::r11, host::rcx));
  load_linear(host::rcx, next_offset_);
  a_.mov(Mem(host::r11, 0, size), reg(kHostRcx, size));
  a_.lea(reg(kHostR10, size), host::ptr(host::r10, -static_cast<std::int32_t>(size)));
  keep_islands_in_reach();
  if (linked) {
    chain(target);
  } else {
    if (relative) {
      load_linear(host::rcx, target);
    } else {
      a_.mov(host::rcx, env(DOPPEL_ENV(value)));
    }
    look_up_jump();
  }
  sites_.back().stack_change = -static_cast<std::int32_t>(size);
  return Next::End;
}

Emitter::Next Emitter::ret(const SourceInsn& source) {
  const unsigned size = stack_size();
  const Label retry = a_.newLabel();
  a_.bind(retry);
  HostReg linear = kHostR10;
  if (!mode_.code_64) a_.mov(reg(linear = kHostR11, 4), host::r10d);
  look_up(linear, size, Kind::Read, true, retry);
  a_.mov(reg(kHostRcx, size), Mem(reg(linear, 8), host::rcx, 0, 0, size));
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
  if (!load_branch_target(source)) return Next::Untranslated;
  a_.mov(host::rcx, env(DOPPEL_ENV(value)));
  look_up_jump();
  return Next::End;
}

}  // namespace doppel::engine::dbt
