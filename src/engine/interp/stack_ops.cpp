#include "engine/interp/handlers.h"
#include "engine/interp/operands.h"
#include "isa/system/operands.h"
#include "x86/stack.h"

/// PUSH, POP and LEAVE. Registers on a flat 64-bit stack are the fast case; all others go through x86/stack.h.
namespace doppel::engine::interp {

namespace {

using isa::Insn;
using isa::OperandKind;
using x86::CpuState;

void push_register(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  context.op = op;
  push_flat(context, at_offset<std::uint64_t>(context, op->reg[0]));
  return next_after_store(thunk_context, op);
}

void push_immediate(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  context.op = op;
  push_flat(context, op->imm);
  return next_after_store(thunk_context, op);
}

void pop_register(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  context.op = op;
  // The value last: POP RSP keeps it.
  const auto value = pop_flat<std::uint64_t>(context);
  at_offset<std::uint64_t>(context, op->reg[0]) = value;
  return next(thunk_context, op);
}

void leave_64(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  context.op = op;
  CpuState& state = context.cpu.state;
  const std::uint64_t frame = state.gpr[x86::kRbp];
  state.gpr[x86::kRbp] = load<std::uint64_t>(context, frame, x86::SegReg::Ss);
  state.gpr[x86::kRsp] = frame + 8;
  return next(thunk_context, op);
}

/// An instruction of a helper in isa/ or x86/, which touches memory.
template <void (*kExecute)(x86::Cpu&, const Insn&)>
void general(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  begin(context, op);
  kExecute(context.cpu, *op->insn);
  return next_after_store(thunk_context, op);
}

void push_operand(x86::Cpu& cpu, const Insn& insn) {
  x86::push(cpu, isa::read_operand(cpu, insn, insn.op[0]), insn.operand_size);
}

void pop_operand(x86::Cpu& cpu, const Insn& insn) {
  CpuState& state = cpu.state;
  const std::uint64_t rsp = state.gpr[x86::kRsp];
  const std::uint64_t value = x86::peek(cpu, 0, insn.operand_size);
  // An address based on RSP counts from the pointer as it is after the POP.
  x86::add_to_stack_pointer(state, insn.operand_size);
  try {
    isa::write_operand(cpu, insn, insn.op[0], value);
  } catch (const x86::Fault&) {
    state.gpr[x86::kRsp] = rsp;
    throw;
  }
}

void leave_any(x86::Cpu& cpu, const Insn& insn) {
  isa::system_op(ZYDIS_MNEMONIC_LEAVE)(cpu, insn);
}

}  // namespace

Handler stack_handler(const Insn& insn, Mode mode) {
  const bool fast = mode.code_64() && insn.operand_size == 8;
  const OperandKind operand = insn.op[0].kind;
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
      if (fast && operand == OperandKind::Gpr) return push_register;
      if (fast && operand == OperandKind::Immediate) return push_immediate;
      return general<push_operand>;
    case ZYDIS_MNEMONIC_POP:
      return fast && operand == OperandKind::Gpr ? pop_register : general<pop_operand>;
    case ZYDIS_MNEMONIC_LEAVE:
      return fast ? leave_64 : general<leave_any>;
    default:
      return nullptr;
  }
}

}  // namespace doppel::engine::interp
