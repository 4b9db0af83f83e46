#include "engine/dbt/trampolines.h"

#include <asmjit/x86.h>

#include <vector>

#include "engine/dbt/jump_look_up.h"
#include "x86/cpu_state.h"
#include "x86/transfer.h"

namespace doppel::engine::dbt {

namespace {

using asmjit::x86::Assembler;
using asmjit::x86::Gp;
using asmjit::x86::Mem;
namespace host = asmjit::x86;
using x86::CpuState;

constexpr std::array kCalleeSaved{host::rbx, host::rbp, host::r12, host::r13, host::r14, host::r15};

struct Place {
  x86::Gpr guest;
  Gp host;
};
const std::array kPlaces{Place{x86::kRax, host::rax}, Place{x86::kRdx, host::rdx}, Place{x86::kRbx, host::rbx},
                         Place{x86::kRbp, host::rbp}, Place{x86::kRsi, host::rsi}, Place{x86::kRdi, host::rdi},
                         Place{x86::kR8, host::r8},   Place{x86::kR12, host::r12}, Place{x86::kR13, host::r13},
                         Place{x86::kR14, host::r14}, Place{x86::kR15, host::r15}, Place{x86::kRcx, host::r9},
                         Place{x86::kRsp, host::r10}};
constexpr std::array kSlots{x86::kR9, x86::kR10, x86::kR11};

Mem env(std::int32_t offset, std::uint32_t size = 8) {
  return Mem(host::rsp, offset, size);
}
Mem state(const Gp& base, std::size_t offset, std::uint32_t size = 8) {
  return Mem(base, static_cast<std::int32_t>(offset), size);
}
std::size_t gpr(unsigned number) {
  return offsetof(CpuState, gpr) + 8 * number;
}
constexpr std::size_t kMxcsr = offsetof(CpuState, fpu) + offsetof(x86::FpuState, mxcsr);

void emit_enter(Assembler& a, bool avx) {
  for (const Gp& reg : kCalleeSaved) a.push(reg);
  a.mov(host::rax, host::rsp);
  a.mov(host::rsp, host::rdi);
  a.mov(env(DOPPEL_ENV(host_rsp)), host::rax);
  a.mov(env(DOPPEL_ENV(resume)), host::rsi);
  a.mov(host::rcx, env(DOPPEL_ENV(state)));
  a.stmxcsr(env(DOPPEL_ENV(host_mxcsr), 4));
  a.ldmxcsr(state(host::rcx, kMxcsr, 4));
  for (unsigned i = 0; i < 16; ++i) {
    const std::size_t at = offsetof(CpuState, ymm) + i * sizeof(x86::Ymm);
    if (avx) {
      a.vmovaps(host::ymm(i), state(host::rcx, at, 32));
    } else {
      a.movaps(host::xmm(i), state(host::rcx, at, 16));
    }
  }
  for (std::size_t i = 0; i < kSlots.size(); ++i) {
    a.mov(host::rax, state(host::rcx, gpr(kSlots[i])));
    a.mov(env(DOPPEL_ENV(slot) + static_cast<std::int32_t>(8 * i)), host::rax);
  }
  // 7Fh + 1 overflows a byte, 7Fh + 0 does not; SAHF sets the other flags.
  a.mov(host::al, state(host::rcx, offsetof(CpuState, of), 1));
  a.add(host::al, 0x7F);
  a.mov(host::ah, state(host::rcx, offsetof(CpuState, rflags_without_of), 1));
  a.sahf();
  for (const Place& place : kPlaces) a.mov(place.host, state(host::rcx, gpr(place.guest)));
  a.jmp(env(DOPPEL_ENV(resume)));
}

void emit_leave(Assembler& a, bool avx) {
  a.mov(env(DOPPEL_ENV(scratch_r11)), host::r11);
  a.mov(host::rcx, env(DOPPEL_ENV(state)));
  for (const Place& place : kPlaces) a.mov(state(host::rcx, gpr(place.guest)), place.host);
  a.lahf();
  a.seto(state(host::rcx, offsetof(CpuState, of), 1));
  a.mov(state(host::rcx, offsetof(CpuState, rflags_without_of), 1), host::ah);
  for (std::size_t i = 0; i < kSlots.size(); ++i) {
    a.mov(host::rax, env(DOPPEL_ENV(slot) + static_cast<std::int32_t>(8 * i)));
    a.mov(state(host::rcx, gpr(kSlots[i])), host::rax);
  }
  for (unsigned i = 0; i < 16; ++i) {
    const std::size_t at = offsetof(CpuState, ymm) + i * sizeof(x86::Ymm);
    if (avx) {
      a.vmovaps(state(host::rcx, at, 32), host::ymm(i));
    } else {
      a.movaps(state(host::rcx, at, 16), host::xmm(i));
    }
  }
  if (avx) a.vzeroupper();
  a.stmxcsr(state(host::rcx, kMxcsr, 4));
  a.ldmxcsr(env(DOPPEL_ENV(host_mxcsr), 4));
  a.mov(host::rsp, env(DOPPEL_ENV(host_rsp)));
  for (auto reg = kCalleeSaved.rbegin(); reg != kCalleeSaved.rend(); ++reg) a.pop(*reg);
  a.ret();
}

/// In what translated code calls, below the return address.
Mem env_below(std::int32_t offset, std::uint32_t size = 8) {
  return env(offset + 8, size);
}

void emit_check_crossing(Assembler& a, unsigned linear, unsigned size, const std::byte* crossing) {
  const asmjit::Label inside = a.newLabel();
  a.pext(host::ecx, host::gpd(linear), env_below(DOPPEL_ENV(page_offset_mask), 4));
  a.lea(host::ecx, host::ptr(host::rcx, static_cast<std::int32_t>(size - 1)));
  a.pext(host::ecx, host::ecx, env_below(DOPPEL_ENV(page_carry_mask), 4));
  a.short_().jecxz(host::rcx, inside);
  a.jmp(reinterpret_cast<std::uint64_t>(crossing));
  a.bind(inside);
  a.ret();
}

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

/// Where the first place in the jump table is not the address's: tries the second.
void emit_not_found(Assembler& a, bool user, const std::byte* look_up) {
  const asmjit::Label found = a.newLabel();
  const auto second_place = [&a](const Mem& mask) {
    a.rorx(host::rcx, host::r11, JumpTable::kSecondRotation);
    a.lea(host::rcx, host::ptr(host::rcx, host::r11));
    a.pdep(host::rcx, host::rcx, mask);
  };
  second_place(env_below(DOPPEL_ENV(jump_mask)));
  a.mov(host::rcx, jump_entry(user, offsetof(JumpTable::Entry, negated_address), 8));
  a.lea(host::rcx, host::ptr(host::rcx, host::r11));
  a.short_().jecxz(host::rcx, found);
  a.mov(env_below(DOPPEL_ENV(target)), host::r11);
  a.jmp(reinterpret_cast<std::uint64_t>(look_up));
  a.bind(found);
  a.lea(host::rsp, host::ptr(host::rsp, 8));
  second_place(env(DOPPEL_ENV(found_mask)));
  emit_found_jump(a, user);
}

/// SDM vol. 2, SYSCALL, from 64-bit code.
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

/// SYSRET to 64-bit code. What is rare: an address in the upper half, single steps, alignment checks, and an interrupt
/// that waits for IF.
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

/// Where REP MOVS and REP STOS leave to.
struct StringExits {
  const std::byte *read_miss, *write_miss, *interpret;
};

/// REP MOVS or REP STOS of elements of 1 << log bytes, upwards, through the tables: as many at once as the pages allow.
/// Between two pages, all registers are as between two iterations.
void emit_string(Assembler& a, bool moves, unsigned log, const StringExits& exits) {
  constexpr std::int32_t kToPageEnd = -static_cast<std::int32_t>(memory::kPageSize);
  constexpr unsigned kTopOfLower = 47, kAboveIndex = 64 - memory::kPageShift - DeltaTable::kIndexBits;
  const auto kept = [](std::size_t field) { return env_below(DOPPEL_ENV(string) + static_cast<std::int32_t>(field)); };
  const auto flags = kept(offsetof(Env::String, flags)), count = kept(offsetof(Env::String, count));
  const auto source = kept(offsetof(Env::String, source)), destination = kept(offsetof(Env::String, destination));
  const asmjit::Label next = a.newLabel(), done = a.newLabel(), read_miss = a.newLabel(), write_miss = a.newLabel(),
                      interpret = a.newLabel();
  const auto restore = [&] {
    a.mov(host::rax, flags);
    a.add(host::al, 0x7F);
    a.sahf();
    a.mov(host::rax, env_below(DOPPEL_ENV(value)));
  };
  const auto page_end = [&](const Gp& out, const Gp& address) {
    a.mov(out, address);
    a.or_(out, kToPageEnd);
    a.neg(out);
  };
  const auto index = [&](const Gp& address) {
    a.mov(host::rcx, address);
    a.sar(host::rcx, kTopOfLower);
    a.inc(host::rcx);
    a.cmp(host::rcx, 1);
    a.ja(interpret);
    a.mov(host::rcx, address);
    a.shl(host::rcx, kAboveIndex);
    a.shr(host::rcx, kAboveIndex + memory::kPageShift);
  };

  a.mov(env_below(DOPPEL_ENV(value)), host::rax);
  a.lahf();
  a.seto(host::al);
  a.mov(flags, host::rax);
  a.cmp(env_below(DOPPEL_ENV(direction_flag), 4), 0);
  a.jne(interpret);
  a.test(host::r9, host::r9);
  a.jz(done);
  a.bind(next);
  page_end(host::eax, host::edi);
  if (moves) {
    page_end(host::ecx, host::esi);
    a.cmp(host::ecx, host::eax);
    a.cmovb(host::eax, host::ecx);
  }
  if (log != 0) {
    a.shr(host::eax, log);
    a.jz(interpret);
  }
  a.cmp(host::r9, host::rax);
  a.cmovb(host::rax, host::r9);
  if (moves) {
    index(host::rsi);
    a.mov(host::rcx, Mem(host::rsp, host::rcx, 3, Views::kReadTable + 8, 8));
    a.test(host::rcx, host::rcx);
    a.jz(read_miss);
    a.lea(host::r11, host::ptr(host::rsi, host::rcx));
  }
  index(host::rdi);
  Mem entry = host::qword_ptr(std::uint64_t{0}, host::rcx, 3);
  entry.setSegment(host::gs);
  a.mov(host::rcx, entry);
  a.test(host::rcx, host::rcx);
  a.jz(write_miss);
  a.mov(count, host::rax);
  a.mov(destination, host::rdi);
  a.lea(host::rdi, host::ptr(host::rdi, host::rcx));
  if (moves) {
    a.mov(source, host::rsi);
    a.mov(host::rsi, host::r11);
  }
  a.mov(host::rcx, host::rax);
  if (!moves) a.mov(host::rax, env_below(DOPPEL_ENV(value)));
  const std::uint32_t bytes = 1U << log;
  const Mem to(host::rdi, 0, bytes), from(host::rsi, 0, bytes);
  a.rep();
  if (moves) {
    a.movs(to, from);
  } else {
    a.stos(to, log == 0 ? Gp(host::al) : log == 1 ? Gp(host::ax) : log == 2 ? Gp(host::eax) : Gp(host::rax));
  }
  a.mov(host::rax, count);
  a.mov(host::rdi, destination);
  a.lea(host::rdi, host::ptr(host::rdi, host::rax, log));
  if (moves) {
    a.mov(host::rsi, source);
    a.lea(host::rsi, host::ptr(host::rsi, host::rax, log));
  }
  a.sub(host::r9, host::rax);
  a.jz(done);
  // Not while something waits for the processor.
  a.cmp(env_below(DOPPEL_ENV(jump_mask), 4), 0);
  a.jne(next);
  a.bind(interpret);
  restore();
  a.jmp(reinterpret_cast<std::uint64_t>(exits.interpret));
  a.bind(done);
  restore();
  a.ret();
  const auto miss = [&](const asmjit::Label& label, const Gp& address, const std::byte* exit) {
    a.bind(label);
    restore();
    a.mov(host::r11, address);
    a.jmp(reinterpret_cast<std::uint64_t>(exit));
  };
  if (moves) miss(read_miss, host::rsi, exits.read_miss);
  miss(write_miss, host::rdi, exits.write_miss);
}

}  // namespace

Result<Trampolines> Trampolines::emit(CodeCache& cache) {
  constexpr std::size_t kRoom = 16384;
  const bool avx = asmjit::CpuInfo::host().features().x86().hasAVX();
  std::byte* base = cache.room(kRoom);
  if (base == nullptr) return Error{"the translator's code cache is too small"};
  asmjit::CodeHolder code;
  code.init(asmjit::Environment::host(), reinterpret_cast<std::uint64_t>(base));
  Assembler a(&code);
  Trampolines made;
  const asmjit::Label leave = a.newLabel();
  made.enter = reinterpret_cast<Enter>(base);
  emit_enter(a, avx);
  const auto way_out = [&](ExitReason reason) {
    const std::byte* at = base + a.offset();
    // Flags are the guest's. What CALL wrote stays: Env::return_address.
    if (reason != ExitReason::HostFault) a.lea(host::rsp, host::ptr(host::rsp, 8));
    a.mov(env(DOPPEL_ENV(reason), 4), static_cast<std::uint32_t>(reason));
    a.jmp(leave);
    return at;
  };
  for (std::size_t i = 0; i < made.exit.size(); ++i) made.exit[i] = way_out(static_cast<ExitReason>(i));
  made.host_fault = way_out(ExitReason::HostFault);
  a.bind(leave);
  emit_leave(a, avx);
  const auto way_out_of = [&made](ExitReason reason) { return made.exit[static_cast<std::size_t>(reason)]; };
  const auto here = [&] { return base + a.offset(); };
  for (unsigned linear = 0; linear < 16; ++linear) {
    for (const ExitReason reason : {ExitReason::ReadMiss, ExitReason::WriteMiss}) {
      made.miss[reason == ExitReason::WriteMiss ? 1 : 0][linear] = here();
      a.mov(host::r11, host::gpq(linear));
      a.jmp(reinterpret_cast<std::uint64_t>(way_out_of(reason)));
    }
    for (unsigned size = 1; size < kCheckedSizes; ++size) {
      made.check_crossing[size][linear] = here();
      emit_check_crossing(a, linear, 1U << size, way_out_of(ExitReason::Crossing));
    }
  }
  for (const bool user : {false, true}) {
    made.not_found[user] = here();
    emit_not_found(a, user, way_out_of(ExitReason::Lookup));
  }
  const StringExits exits{way_out_of(ExitReason::ReadMiss), way_out_of(ExitReason::WriteMiss),
                          way_out_of(ExitReason::String)};
  for (unsigned log = 0; log < kStringSizes; ++log) {
    made.move_string[log] = here();
    emit_string(a, true, log, exits);
    made.store_string[log] = here();
    emit_string(a, false, log, exits);
  }
  made.nowhere = here();
  a.lea(host::rsp, host::ptr(host::rsp, -8));  // for it has been jumped to
  a.jmp(reinterpret_cast<std::uint64_t>(way_out_of(ExitReason::Nowhere)));
  const std::byte* interpret = way_out_of(ExitReason::Interpret);
  made.system_call = here();
  emit_system_call(a, interpret, made.not_found[false]);
  made.system_return = here();
  emit_system_return(a, interpret, made.not_found[true]);
  code.flatten();
  code.resolveUnresolvedLinks();
  if (code.hasUnresolvedLinks()) return Error{"the translator's own code does not fit together"};
  std::vector<std::byte> bytes(code.codeSize());
  code.copyFlattenedData(bytes.data(), bytes.size());
  cache.add_permanent(bytes);
  return made;
}

}  // namespace doppel::engine::dbt
