#pragma once

#include <cstdint>
#include <optional>

#include "isa/insn.h"
#include "x86/cpu_state.h"

/// Questions that every engine asks about an instruction.
namespace doppel::isa {

/// PCMPESTRI and its kin, which leave an index in ECX without naming it.
bool leaves_index_in_ecx(ZydisMnemonic mnemonic);

/// The explicit operand that Insn::mem describes, or null. There is never more than one.
const Operand* memory_operand(const Insn& insn);

/// BT and its kin with a memory operand and a register: the register counts bits from the memory operand, and reaches
/// beyond it (SDM vol. 2, 3.1.1.9).
bool is_bit_string(const Insn& insn);
/// How many bytes from its memory operand the one is that such an instruction accesses; 0 for any other instruction.
std::int64_t bit_string_offset(const x86::CpuState& state, const Insn& insn);

inline constexpr unsigned kJumpConditions = 16;
/// The condition of a Jcc, as the opcode's low four bits encode it.
std::optional<unsigned> jump_condition(ZydisMnemonic mnemonic);

}  // namespace doppel::isa
