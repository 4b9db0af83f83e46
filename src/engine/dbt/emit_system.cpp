#include "engine/dbt/emitter.h"
#include "isa/op_table.h"
#include "time/vm_clock.h"
#include "x86/cpu_state.h"

/// The system instructions that are worth being translated.
namespace doppel::engine::dbt {

namespace host = asmjit::x86;
using isa::OpClass;

namespace {

/// An instruction that stays in its block and leaves through C++ only to come back: the shadow of STI ends with it.
bool may_follow_sti(const SourceInsn& source) {
  switch (source.insn.mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
      return source.insn.op[0].kind == isa::OperandKind::Gpr;
    case ZYDIS_MNEMONIC_NOP:
      return true;
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_RET:
      return !source.insn.far_branch;
    default:
      return isa::op_class(source.insn) == OpClass::HostAlu && source.insn.unit == isa::Unit::Integer;
  }
}

}  // namespace

Emitter::Next Emitter::system(const SourceInsn& source, const SourceInsn* following) {
  switch (source.insn.mnemonic) {
    case ZYDIS_MNEMONIC_CLC:
      a_.clc();
      return Next::Continue;
    case ZYDIS_MNEMONIC_STC:
      a_.stc();
      return Next::Continue;
    case ZYDIS_MNEMONIC_CMC:
      a_.cmc();
      return Next::Continue;
    case ZYDIS_MNEMONIC_LAHF:
      a_.lahf();
      return Next::Continue;
    case ZYDIS_MNEMONIC_SAHF:
      a_.sahf();
      return Next::Continue;
    case ZYDIS_MNEMONIC_CLD:
      a_.mov(env(DOPPEL_ENV(direction_flag)), 0);
      return Next::Continue;
    case ZYDIS_MNEMONIC_STD:
      a_.mov(env(DOPPEL_ENV(direction_flag)), static_cast<std::int32_t>(x86::rflags::kDf));
      return Next::Continue;
    case ZYDIS_MNEMONIC_CLI:
      if (mode_.user) return Next::Untranslated;
      a_.mov(env(DOPPEL_ENV(interrupt_flag)), 0);
      return Next::Continue;
    case ZYDIS_MNEMONIC_SWAPGS:
      if (mode_.user) return Next::Untranslated;
      a_.mov(host::rcx, env(DOPPEL_ENV(gs_base)));
      a_.mov(host::r11, env(DOPPEL_ENV(kernel_gs_base)));
      a_.mov(env(DOPPEL_ENV(gs_base)), host::r11);
      a_.mov(env(DOPPEL_ENV(kernel_gs_base)), host::rcx);
      return Next::Continue;
    case ZYDIS_MNEMONIC_STI: {
      if (mode_.user || following == nullptr || !may_follow_sti(*following)) return Next::Untranslated;
      // With an interrupt waiting, the interpreter sees to its delivery.
      const Label calm = a_.newLabel();
      a_.mov(host::rcx, env(DOPPEL_ENV(interrupt_waiting)));
      a_.short_().jecxz(host::rcx, calm);
      call_out(ExitReason::InterpretAndLook, add_site());
      sites_.back().looks_around = true;
      a_.bind(calm);
      a_.mov(env(DOPPEL_ENV(interrupt_flag)), static_cast<std::int32_t>(x86::rflags::kIf));
      return Next::Continue;
    }
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
      if (source.insn.operand_size != stack_size()) return Next::Untranslated;
      push_flags();
      return Next::Continue;
    case ZYDIS_MNEMONIC_SYSCALL:
      if (!mode_.user || !mode_.code_64) return Next::Untranslated;
      load_linear(host::rcx, next_offset_);
      call_switch(trampolines_.system_call);
      return Next::End;
    case ZYDIS_MNEMONIC_SYSRET:
      if (mode_.user || !mode_.code_64 || source.insn.operand_size != 8) return Next::Untranslated;
      call_switch(trampolines_.system_return);
      return Next::End;
    case ZYDIS_MNEMONIC_STAC:
    case ZYDIS_MNEMONIC_CLAC:
      if (mode_.user) return Next::Untranslated;
      change_access(source.insn.mnemonic == ZYDIS_MNEMONIC_STAC);
      return Next::Continue;
    case ZYDIS_MNEMONIC_MOV:
      return read_register(source);
    case ZYDIS_MNEMONIC_RDTSC:
      read_tsc();
      return Next::Continue;
    case ZYDIS_MNEMONIC_RDTSCP:
      a_.lfence();  // It waits for what comes before it.
      read_tsc();
      load_state(host::r9d, offsetof(x86::CpuState, tsc_aux));
      return Next::Continue;
    case ZYDIS_MNEMONIC_RDFSBASE:
      return segment_base(source, DOPPEL_ENV(fs_base), false);
    case ZYDIS_MNEMONIC_RDGSBASE:
      return segment_base(source, DOPPEL_ENV(gs_base), false);
    case ZYDIS_MNEMONIC_WRFSBASE:
      return segment_base(source, DOPPEL_ENV(fs_base), true);
    case ZYDIS_MNEMONIC_WRGSBASE:
      return segment_base(source, DOPPEL_ENV(gs_base), true);
    default:
      return Next::Untranslated;
  }
}

/// Leaves by `reason` if rcx is 0.
void Emitter::leave_where_zero(ExitReason reason) {
  const Label island = a_.newLabel();
  a_.short_().jecxz(host::rcx, island);
  islands_.push_back({island, reason, add_site(), kNoHostReg, a_.offset()});
  keep_islands_in_reach();
}

/// Like call_out(ExitReason::Interpret), which it may turn out to be.
void Emitter::call_switch(const std::byte* trampoline) {
  const std::uint32_t site = add_site();
  a_.call(reinterpret_cast<std::uint64_t>(trampoline));
  a_.embedUInt32(first_site_ + site);
}

/// Something of x86::CpuState. Changes r11.
void Emitter::load_state(const Gp& target, std::size_t offset) {
  a_.mov(host::r11, env(DOPPEL_ENV(state)));
  a_.mov(target, Mem(host::r11, static_cast<std::int32_t>(offset), target.size()));
}

/// TscLine in line. It has written to rax and rdx by the time it may find that the line no longer holds; then the
/// interpreter writes to both.
void Emitter::read_tsc() {
  static_assert(time::kTscHz == time::kSecond);
  const auto line = [](std::size_t field) { return host::qword_ptr(host::r11, static_cast<std::int32_t>(field)); };
  constexpr unsigned kSign = 63, kHalf = 32;
  a_.mov(host::rcx, env(DOPPEL_ENV(clock)));
  leave_where_zero(ExitReason::Interpret);
  a_.mov(host::r11, host::rcx);
  a_.mov(host::rcx, line(offsetof(time::TscLine, inverted_end)));
  a_.rdtsc();
  a_.rorx(host::rdx, host::rdx, kHalf);
  a_.lea(host::rdx, host::ptr(host::rdx, host::rax));
  a_.mov(host::rax, line(offsetof(time::TscLine, minus_start)));
  a_.lea(host::rdx, host::ptr(host::rdx, host::rax));
  a_.mov(host::eax, kSign);
  a_.shrx(host::rax, host::rdx, host::rax);
  a_.lea(host::rcx, host::ptr(host::rcx, host::rax));
  keep_islands_in_reach();
  a_.mulx(host::rdx, host::rax, line(offsetof(time::TscLine, rate)));
  a_.mov(host::rax, line(offsetof(time::TscLine, value)));
  a_.lea(host::rdx, host::ptr(host::rdx, host::rax));
  // begin - end, which is 0 or 1, and the sign: 0 if all is well.
  a_.mov(host::rax, line(offsetof(time::TscLine, begin)));
  a_.lea(host::rcx, host::ptr(host::rcx, host::rax, 0, 1));
  keep_islands_in_reach();
  load_state(host::rax, offsetof(x86::CpuState, tsc_offset));
  a_.lea(host::rdx, host::ptr(host::rdx, host::rax));
  const Label holds = a_.newLabel();
  a_.short_().jecxz(host::rcx, holds);
  call_out(ExitReason::Interpret, add_site());
  a_.bind(holds);
  a_.mov(host::eax, host::edx);
  a_.rorx(host::rdx, host::rdx, kHalf);
  a_.mov(host::edx, host::edx);
}

/// RFLAGS.AC decides under which view supervisor code is.
void Emitter::change_access(bool allowed) {
  const std::int32_t tables = DOPPEL_ENV(tables) + (allowed ? 2 * static_cast<std::int32_t>(sizeof(Env::Tables)) : 0);
  a_.mov(host::rcx, env(DOPPEL_ENV(may_change_access)));
  leave_where_zero(ExitReason::Interpret);
  a_.mov(env(DOPPEL_ENV(access_flag)), allowed ? static_cast<std::int32_t>(x86::rflags::kAc) : 0);
  a_.mov(env(DOPPEL_ENV(switched)), 1);
  a_.mov(host::rcx, env(tables + static_cast<std::int32_t>(offsetof(Env::Tables, write_table))));
  a_.mov(env(DOPPEL_ENV(write_table)), host::rcx);
  a_.wrgsbase(host::rcx);
  a_.mov(host::rsp, env(tables + static_cast<std::int32_t>(offsetof(Env::Tables, stack_pointer))));
}

/// MOV of a segment or control register to a general one.
Emitter::Next Emitter::read_register(const SourceInsn& source) {
  using isa::OperandKind;
  const isa::Operand &target = source.insn.op[0], &from = source.insn.op[1];
  if (!mode_.code_64 || target.kind != OperandKind::Gpr) return Next::Untranslated;
  if (from.kind == OperandKind::Segment) {
    a_.mov(host::r11, env(DOPPEL_ENV(state)));
    const std::size_t at = offsetof(x86::CpuState, segment) + from.reg * sizeof(x86::Segment);
    a_.movzx(host::ecx, Mem(host::r11, static_cast<std::int32_t>(at + offsetof(x86::Segment, selector)), 2));
    if (target.size != 2) {
      store_gpr(target.reg, host::rcx);
    } else if (is_slot(target.reg)) {
      a_.mov(slot(target.reg, 2), host::cx);
    } else {
      a_.mov(reg(host_of(target.reg), 2), host::cx);
    }
    return Next::Continue;
  }
  if (from.kind != OperandKind::Control || mode_.user || from.reg != 2) return Next::Untranslated;
  load_state(host::rcx, offsetof(x86::CpuState, cr2));
  store_gpr(target.reg, host::rcx);
  return Next::Continue;
}

/// RDFSBASE and its like; what would fault is left to the interpreter.
Emitter::Next Emitter::segment_base(const SourceInsn& source, std::int32_t base, bool write) {
  if (!mode_.code_64) return Next::Untranslated;
  const unsigned guest = source.insn.op[0].reg;
  const bool wide = source.insn.operand_size == 8;
  if (!wide && source.insn.operand_size != 4) return Next::Untranslated;
  a_.mov(host::rcx, env(DOPPEL_ENV(fsgsbase)));
  leave_where_zero(ExitReason::Interpret);
  if (!write) {
    a_.mov(reg(kHostR11, source.insn.operand_size), env(base, source.insn.operand_size));
    store_gpr(guest, host::r11);
    return Next::Continue;
  }
  load_gpr(host::r11, guest);
  if (wide) {
    // Of a canonical address, the upper bits and the sign are 0 and 0, or -1 and 1.
    constexpr unsigned kTopOfLower = 47, kSign = 63;
    const Label canonical = a_.newLabel();
    a_.mov(env(DOPPEL_ENV(value)), host::rax);
    a_.mov(host::ecx, kTopOfLower);
    a_.sarx(host::rcx, host::r11, host::rcx);
    a_.mov(host::eax, kSign);
    a_.shrx(host::rax, host::r11, host::rax);
    a_.lea(host::rcx, host::ptr(host::rcx, host::rax));
    a_.mov(host::rax, env(DOPPEL_ENV(value)));
    keep_islands_in_reach();
    a_.short_().jecxz(host::rcx, canonical);
    call_out(ExitReason::Interpret, add_site());
    a_.bind(canonical);
  } else {
    a_.mov(host::r11d, host::r11d);
  }
  a_.mov(env(base), host::r11);
  return Next::Continue;
}

/// Puts the image together by additions that leave flags alone: LAHF has the lower five, OF goes to bit 11.
void Emitter::push_flags() {
  constexpr unsigned kOfToBit11 = 32 - 11;
  const unsigned size = stack_size();
  a_.lea(host::r11, write_stack().operand(8));
  keep_islands_in_reach();
  a_.mov(env(DOPPEL_ENV(value)), host::rax);
  a_.lahf();
  a_.seto(host::al);
  a_.movzx(host::ecx, host::ah);
  a_.movzx(host::eax, host::al);
  a_.rorx(host::eax, host::eax, kOfToBit11);
  a_.lea(host::rcx, host::ptr(host::rcx, host::rax));
  keep_islands_in_reach();
  for (const std::int32_t part :
       {DOPPEL_ENV(interrupt_flag), DOPPEL_ENV(access_flag), DOPPEL_ENV(direction_flag), DOPPEL_ENV(pushed_flags)}) {
    a_.mov(host::rax, env(part));
    a_.lea(host::rcx, host::ptr(host::rcx, host::rax));
  }
  a_.mov(host::rax, env(DOPPEL_ENV(value)));
  a_.mov(Mem(host::r11, 0, size), reg(kHostRcx, size));
  a_.lea(reg(kHostR10, size), host::ptr(host::r10, -static_cast<std::int32_t>(size)));
}

}  // namespace doppel::engine::dbt
