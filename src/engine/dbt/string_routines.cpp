#include "engine/dbt/string_routines.h"

#include "engine/dbt/env_operand.h"
#include "engine/dbt/views.h"

namespace doppel::engine::dbt {

namespace host = asmjit::x86;
using host::Assembler;
using host::Gp;
using host::Mem;

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

}  // namespace doppel::engine::dbt
