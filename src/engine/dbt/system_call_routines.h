#pragma once

#include <asmjit/x86.h>

#include <cstddef>

namespace doppel::engine::dbt {

/// SDM vol. 2, SYSCALL, from 64-bit code, with the address behind it in rcx. `interpret` is left to where
/// Env::may_switch does not allow it, `not_found` called when the jump table does not have where it leads.
void emit_system_call(asmjit::x86::Assembler& a, const std::byte* interpret, const std::byte* not_found);

/// SYSRET to 64-bit code. What is rare: an address in the upper half, single steps, alignment checks, and an interrupt
/// that waits for IF.
void emit_system_return(asmjit::x86::Assembler& a, const std::byte* interpret, const std::byte* not_found);

}  // namespace doppel::engine::dbt
