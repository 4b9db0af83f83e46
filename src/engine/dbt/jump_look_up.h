#pragma once

#include <asmjit/x86.h>

#include <cstdint>

#include "engine/dbt/env_operand.h"
#include "engine/dbt/views.h"

namespace doppel::engine::dbt {

/// Where in a jump table the code is that rcx has found the place of.
inline asmjit::x86::Mem jump_entry(bool user, std::size_t field, std::int32_t below = 0) {
  namespace host = asmjit::x86;
  return {host::rsp, host::rcx, 3, Views::jump_table(user) + static_cast<std::int32_t>(field) + below, 8};
}

/// Goes on at the entry whose place is in rcx, for the guest address in r11.
inline void emit_found_jump(asmjit::x86::Assembler& a, bool user) {
  namespace host = asmjit::x86;
  if (user) {
    const host::Mem mask = env(DOPPEL_ENV(page_mask));
    a.pext(host::r11, host::r11, mask);
    a.pdep(host::r11, host::r11, mask);
    a.mov(env(DOPPEL_ENV(page_base)), host::r11);
  }
  a.jmp(jump_entry(user, offsetof(JumpTable::Entry, code)));
}

/// Jumps to the guest address in r11, by way of the jump table. `call_not_found` writes a call of
/// Trampolines::not_found. Changes rcx.
template <class CallNotFound>
void emit_jump_look_up(asmjit::x86::Assembler& a, bool user, CallNotFound call_not_found) {
  namespace host = asmjit::x86;
  const asmjit::Label found = a.newLabel();
  a.pdep(host::rcx, host::r11, env(DOPPEL_ENV(jump_mask)));
  a.mov(host::rcx, jump_entry(user, offsetof(JumpTable::Entry, negated_address)));
  a.lea(host::rcx, host::ptr(host::rcx, host::r11));
  a.short_().jecxz(host::rcx, found);
  call_not_found();
  a.bind(found);
  a.pdep(host::rcx, host::r11, env(DOPPEL_ENV(found_mask)));
  emit_found_jump(a, user);
}

}  // namespace doppel::engine::dbt
