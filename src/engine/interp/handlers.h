#pragma once

#include "engine/interp/context.h"
#include "engine/interp/mode.h"
#include "isa/insn.h"

/// The interpreter's own instructions. Each `…_handler` returns what executes one instruction in a mode, or null when
/// it is none of its group.
namespace doppel::engine::interp {

/// JMP, CALL, RET, Jcc, LOOPcc, JCXZ. `op.imm` is the displacement of relative ones.
Handler branch_handler(const isa::Insn& insn, Mode mode);
/// PUSH, POP, LEAVE.
Handler stack_handler(const isa::Insn& insn, Mode mode);
/// MOVS, STOS, LODS, CMPS, SCAS, with REP.
Handler string_handler(const isa::Insn& insn);
/// PREFETCH, fences, PAUSE, and NOP (of which blocks keep none).
Handler hint_handler(const isa::Insn& insn);
/// VZEROALL, gathers, masked moves: vector instructions that touch memory in parts, or all registers.
Handler vector_handler(const isa::Insn& insn);

/// Executes a CoreThunk with all checks: for operands that are not at hand, units that may be switched off, x87 and
/// MMX.
Handler core_handler(const isa::Insn& insn);
/// The same, jumped to by a thunk that found its memory operand not at hand.
void memory_miss(ThunkContext* context, const DecodedOp* op);
void stored_to_code(ThunkContext* context, const DecodedOp* op, std::uint64_t linear);
void host_fault(ThunkContext* context, const DecodedOp* op, std::uint64_t vector);

/// DecodedOp::system. One ends the block …
void system_handler(ThunkContext* context, const DecodedOp* op);
/// … the other is for those that change neither mode nor what is deliverable.
void quiet_system_handler(ThunkContext* context, const DecodedOp* op);

/// Not an instruction: the block ends here, with the next instruction's address in `start`.
void end_of_block(ThunkContext* context, const DecodedOp* op);
/// #UD; or #GP for an instruction that is too long.
void undefined(ThunkContext* context, const DecodedOp* op);
void too_long(ThunkContext* context, const DecodedOp* op);

/// Checks that CR0, CR4 and XCR0 let this instruction's unit run.
void require_unit(x86::Cpu& cpu, const isa::Insn& insn);

}  // namespace doppel::engine::interp
