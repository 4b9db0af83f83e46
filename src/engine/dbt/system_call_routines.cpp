#include "engine/dbt/system_call_routines.h"

#include "engine/dbt/env_operand.h"
#include "engine/dbt/jump_look_up.h"
#include "x86/cpu_state.h"
#include "x86/transfer.h"

namespace doppel::engine::dbt {

namespace {

using asmjit::x86::Assembler;
namespace host = asmjit::x86;
using x86::CpuState;

constexpr std::size_t seg(x86::SegReg reg, std::size_t field) {
  return offsetof(CpuState, segment) + static_cast<std::size_t>(reg) * sizeof(x86::Segment) + field;
}

/// Loads CS and SS as SYSCALL and SYSRET do (x86/syscall.cpp), with the state's address in r11. Changes rax and rcx.
void emit_flat_segments(Assembler& a, bool user) {
  using x86::Segment;
  using x86::SegReg;
  static_assert(offsetof(Segment, attributes) == offsetof(Segment, limit) + 4);
  constexpr std::uint64_t kNoLimit = 0xFFFF'FFFF, kAttributes = std::uint64_t{1} << 32;
  const std::uint64_t dpl = user ? 3 << 5 : 0;
  const auto load = [&](SegReg reg, std::uint64_t attributes) {
    a.mov(state(host::r11, seg(reg, offsetof(Segment, base))), 0);
    a.mov(host::rax, (attributes | dpl) * kAttributes | kNoLimit);
    a.mov(state(host::r11, seg(reg, offsetof(Segment, limit))), host::rax);
  };
  load(SegReg::Cs, x86::kFlatCode64);
  load(SegReg::Ss, x86::kFlatData32);
  const auto store_selector = [&](SegReg reg) {
    a.mov(state(host::r11, seg(reg, offsetof(Segment, selector)), 2), host::ax);
  };
  constexpr std::size_t kSysret = 6, kSyscall = 4;
  a.movzx(host::eax, state(host::r11, offsetof(CpuState, star) + (user ? kSysret : kSyscall), 2));
  if (!user) {
    a.and_(host::eax, 0xFFFC);
    store_selector(SegReg::Cs);
    a.add(host::eax, 8);
    store_selector(SegReg::Ss);
    return;
  }
  const auto level_3 = [&](SegReg reg, std::int32_t distance) {
    a.lea(host::ecx, host::ptr(host::rax, distance));
    a.or_(host::ecx, 3);
    a.mov(state(host::r11, seg(reg, offsetof(Segment, selector)), 2), host::cx);
  };
  level_3(SegReg::Ss, 8);
  level_3(SegReg::Cs, 16);
}

/// Goes on in user or supervisor code, at guest rcx or LSTAR, with RFLAGS in edx, guest rax in Env::value and guest rdx
/// in Env::target.
void emit_switch(Assembler& a, bool user, const std::byte* not_found) {
  namespace rflags = x86::rflags;
  constexpr std::uint64_t kHidden = rflags::kVm | rflags::kRf | rflags::kIf | rflags::kAc | rflags::kDf | 0xFF;
  constexpr unsigned kOfBit = 11;
  a.mov(host::r11, env(DOPPEL_ENV(state)));
  const auto keep_flag = [&a](std::int32_t field, std::uint64_t flag) {
    a.mov(host::eax, host::edx);
    a.and_(host::eax, static_cast<std::uint32_t>(flag));
    a.mov(env(field), host::rax);
  };
  keep_flag(DOPPEL_ENV(interrupt_flag), rflags::kIf);
  keep_flag(DOPPEL_ENV(access_flag), rflags::kAc);
  keep_flag(DOPPEL_ENV(direction_flag), rflags::kDf);
  a.mov(host::eax, host::edx);
  a.and_(host::eax, ~static_cast<std::uint32_t>(rflags::kOf));
  a.mov(state(host::r11, offsetof(CpuState, rflags_without_of)), host::rax);
  a.and_(host::eax, ~static_cast<std::uint32_t>(kHidden));
  a.mov(env(DOPPEL_ENV(pushed_flags)), host::rax);
  emit_flat_segments(a, user);
  if (user) {
    a.inc(env(DOPPEL_ENV(returns)));
    a.mov(host::r11, host::r9);
  } else {
    a.mov(host::r11, state(host::r11, offsetof(CpuState, lstar)));
  }

  const std::int32_t tables = DOPPEL_ENV(tables) + (user ? static_cast<std::int32_t>(sizeof(Env::Tables)) : 0);
  a.mov(host::rax, env(tables + static_cast<std::int32_t>(offsetof(Env::Tables, write_table))));
  a.mov(env(DOPPEL_ENV(write_table)), host::rax);
  a.wrgsbase(host::rax);
  a.mov(env(DOPPEL_ENV(switched)), 1);
  a.mov(host::rsp, env(tables + static_cast<std::int32_t>(offsetof(Env::Tables, stack_pointer))));

  // As in emit_enter().
  a.mov(host::eax, host::edx);
  a.shr(host::eax, kOfBit);
  a.and_(host::eax, 1);
  a.mov(host::ah, host::dl);
  a.add(host::al, 0x7F);
  a.sahf();
  a.mov(host::rax, env(DOPPEL_ENV(value)));
  a.mov(host::rdx, env(DOPPEL_ENV(target)));
  emit_jump_look_up(a, user, [&] { a.call(reinterpret_cast<std::uint64_t>(not_found)); });
}

}  // namespace

void emit_system_call(Assembler& a, const std::byte* interpret, const std::byte* not_found) {
  namespace rflags = x86::rflags;
  constexpr unsigned kOfBit = 11;
  const asmjit::Label rare = a.newLabel(), common = a.newLabel();
  a.mov(host::r11, host::rcx);
  a.mov(host::rcx, env_below(DOPPEL_ENV(may_switch)));
  a.short_().jecxz(host::rcx, rare);
  a.short_().jmp(common);
  a.bind(rare);
  a.jmp(reinterpret_cast<std::uint64_t>(interpret));
  a.bind(common);
  a.lea(host::rsp, host::ptr(host::rsp, 8));
  a.mov(env(DOPPEL_ENV(value)), host::rax);
  a.mov(env(DOPPEL_ENV(target)), host::rdx);
  a.lahf();
  a.seto(host::al);
  a.movzx(host::edx, host::ah);
  a.movzx(host::eax, host::al);
  a.shl(host::eax, kOfBit);
  a.or_(host::edx, host::eax);
  a.or_(host::edx, env(DOPPEL_ENV(interrupt_flag), 4));
  a.or_(host::edx, env(DOPPEL_ENV(access_flag), 4));
  a.or_(host::edx, env(DOPPEL_ENV(direction_flag), 4));
  a.or_(host::edx, env(DOPPEL_ENV(pushed_flags), 4));
  a.mov(env(DOPPEL_ENV(slot) + 8 * static_cast<std::int32_t>(x86::kR11 - x86::kR9)), host::rdx);
  a.mov(host::r9, host::r11);
  a.mov(host::r11, env(DOPPEL_ENV(state)));
  a.mov(host::eax, state(host::r11, offsetof(CpuState, sfmask), 4));
  a.not_(host::eax);
  a.and_(host::edx, host::eax);
  a.or_(host::edx, static_cast<std::uint32_t>(rflags::kReserved1));
  emit_switch(a, false, not_found);
}

void emit_system_return(Assembler& a, const std::byte* interpret, const std::byte* not_found) {
  namespace rflags = x86::rflags;
  constexpr std::uint64_t kLoaded = rflags::kStatus | rflags::kTf | rflags::kIf | rflags::kDf | rflags::kIopl |
                                    rflags::kNt | rflags::kAc | rflags::kVif | rflags::kVip | rflags::kId;
  constexpr unsigned kTopOfLower = 47;
  const asmjit::Label rare = a.newLabel(), lower = a.newLabel(), plain = a.newLabel(), calm = a.newLabel();
  const std::int32_t guest_r11 = DOPPEL_ENV(slot) + 8 * static_cast<std::int32_t>(x86::kR11 - x86::kR9);
  a.mov(host::rcx, env_below(DOPPEL_ENV(may_switch)));
  a.short_().jecxz(host::rcx, rare);
  a.mov(host::ecx, kTopOfLower);
  a.shrx(host::rcx, host::r9, host::rcx);
  a.short_().jecxz(host::rcx, lower);
  a.jmp(rare);
  a.bind(lower);
  a.mov(host::r11, env_below(guest_r11));
  a.mov(host::ecx, static_cast<std::uint32_t>(rflags::kTf | rflags::kAc));
  a.pext(host::ecx, host::r11d, host::ecx);
  a.short_().jecxz(host::rcx, plain);
  a.jmp(rare);
  a.bind(plain);
  a.mov(host::rcx, env_below(DOPPEL_ENV(interrupt_waiting)));
  a.short_().jecxz(host::rcx, calm);
  a.bind(rare);
  a.jmp(reinterpret_cast<std::uint64_t>(interpret));
  a.bind(calm);
  a.lea(host::rsp, host::ptr(host::rsp, 8));
  a.mov(env(DOPPEL_ENV(value)), host::rax);
  a.mov(env(DOPPEL_ENV(target)), host::rdx);
  a.mov(host::edx, host::r11d);
  a.and_(host::edx, static_cast<std::uint32_t>(kLoaded));
  a.or_(host::edx, static_cast<std::uint32_t>(rflags::kReserved1));
  emit_switch(a, true, not_found);
}

}  // namespace doppel::engine::dbt
