#include "engine/dbt/trampolines.h"

#include <asmjit/x86.h>

#include <vector>

#include "engine/dbt/env_operand.h"
#include "engine/dbt/jump_look_up.h"
#include "engine/dbt/string_routines.h"
#include "engine/dbt/system_call_routines.h"
#include "x86/cpu_state.h"

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

}  // namespace

Result<Trampolines> Trampolines::emit(CodeCache& cache) {
  const bool avx = asmjit::CpuInfo::host().features().x86().hasAVX();
  std::byte* base = cache.room();
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
