#include <utility>

#include "base/bits.h"
#include "engine/interp/handlers.h"
#include "engine/interp/operands.h"
#include "isa/insn_queries.h"
#include "x86/fault.h"
#include "x86/stack.h"

/// Near transfers of control. They end their blocks.
namespace doppel::engine::interp {

namespace {

using isa::Insn;
using isa::OperandKind;
using x86::CpuState;
namespace rflags = x86::rflags;

/// How RIP is cut and checked: the three widths of near branches. In 64-bit mode a 16-bit one (with 66h, on the
/// processors that have it) cuts RIP to 16 bits.
enum class Width : std::uint8_t { Bits16, Bits32, Bits64 };

template <Width kWidth>
std::uint64_t checked_target(const Context& context, std::uint64_t target) {
  if constexpr (kWidth == Width::Bits64) {
    if (!x86::is_canonical(target)) [[unlikely]]
      x86::raise_gp();
    return target;
  } else {
    target &= kWidth == Width::Bits32 ? 0xFFFF'FFFF : 0xFFFF;
    if (target > context.code_limit) [[unlikely]]
      x86::raise_gp();
    return target;
  }
}

inline void leave_to(Context& context, std::uint64_t rip, Link* link) {
  context.cpu.state.rip = rip;
  context.link = link;
}

template <Width kWidth>
void take(Context& context, const DecodedOp* op) {
  leave_to(context, checked_target<kWidth>(context, next_rip(context, op) + op->imm), &context.block->link[1]);
}
inline void fall_through(Context& context, const DecodedOp* op) {
  leave_to(context, next_rip(context, op), &context.block->link[0]);
}

/// Jcc's conditions by their encoding; odd ones negate.
template <unsigned kCondition>
bool holds(const CpuState& state) {
  const auto flags = static_cast<std::uint8_t>(state.rflags_without_of);
  const bool sign = (flags & rflags::kSf) != 0;
  const bool overflow = state.of != 0;
  bool result = false;
  switch (kCondition / 2) {
    case 0:
      result = overflow;
      break;
    case 1:
      result = (flags & rflags::kCf) != 0;
      break;
    case 2:
      result = (flags & rflags::kZf) != 0;
      break;
    case 3:
      result = (flags & (rflags::kCf | rflags::kZf)) != 0;
      break;
    case 4:
      result = sign;
      break;
    case 5:
      result = (flags & rflags::kPf) != 0;
      break;
    case 6:
      result = sign != overflow;
      break;
    default:
      result = (flags & rflags::kZf) != 0 || sign != overflow;
      break;
  }
  return result != (kCondition % 2 != 0);
}

template <Width kWidth, unsigned kCondition>
void jump_if(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  if (!holds<kCondition>(context.cpu.state)) return fall_through(context, op);
  context.op = op;
  take<kWidth>(context, op);
}

template <Width kWidth>
void jump_relative(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  context.op = op;
  take<kWidth>(context, op);
}

template <Width kWidth>
void jump_indirect(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  context.op = op;
  leave_to(context, checked_target<kWidth>(context, read_source(context, op)), &context.lookup);
}

template <Width kWidth>
constexpr unsigned kBytes = kWidth == Width::Bits64   ? 8
                            : kWidth == Width::Bits32 ? 4
                                                      : 2;

template <Width kWidth>
void push_return(Context& context, const DecodedOp* op) {
  const std::uint64_t rip = next_rip(context, op);
  if constexpr (kWidth == Width::Bits64) {
    push_flat<std::uint64_t>(context, rip);
  } else {
    x86::push(context.cpu, rip, kBytes<kWidth>);
  }
}

/// A call pushes before it looks at its target: where both fail, the push's fault is the one.
template <Width kWidth>
std::uint64_t call_target(Context& context, std::uint64_t target) {
  try {
    return checked_target<kWidth>(context, target);
  } catch (const x86::Fault&) {
    x86::probe_push(context.cpu, kBytes<kWidth>);
    throw;
  }
}

template <Width kWidth>
void call_relative(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  context.op = op;
  const std::uint64_t target = call_target<kWidth>(context, next_rip(context, op) + op->imm);
  push_return<kWidth>(context, op);
  leave_to(context, target, &context.block->link[1]);
}

template <Width kWidth>
void call_indirect(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  context.op = op;
  const std::uint64_t target = call_target<kWidth>(context, read_source(context, op));
  push_return<kWidth>(context, op);
  leave_to(context, target, &context.lookup);
}

template <Width kWidth>
void return_near(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  context.op = op;
  CpuState& state = context.cpu.state;
  if constexpr (kWidth == Width::Bits64) {
    const std::uint64_t target =
        checked_target<kWidth>(context, load<std::uint64_t>(context, state.gpr[x86::kRsp], x86::SegReg::Ss));
    state.gpr[x86::kRsp] += 8 + op->imm;
    leave_to(context, target, &context.lookup);
  } else {
    const std::uint64_t target = checked_target<kWidth>(context, x86::peek(context.cpu, 0, kBytes<kWidth>));
    x86::add_to_stack_pointer(state, static_cast<std::int64_t>(kBytes<kWidth> + op->imm));
    leave_to(context, target, &context.lookup);
  }
}

/// The counter of LOOP and JCXZ is as wide as addresses are.
template <Width kWidth>
void loop(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  context.op = op;
  const Insn& insn = *op->insn;
  std::uint64_t& rcx = context.cpu.state.gpr[x86::kRcx];
  const std::uint64_t mask = low_mask(insn.address_size * 8U);
  const std::uint64_t count = (rcx - 1) & mask;
  const bool zero = (context.cpu.state.rflags_without_of & rflags::kZf) != 0;
  const bool taken =
      count != 0 && (insn.mnemonic == ZYDIS_MNEMONIC_LOOP || zero == (insn.mnemonic == ZYDIS_MNEMONIC_LOOPE));
  if (taken) {
    take<kWidth>(context, op);
  } else {
    fall_through(context, op);
  }
  // Only now: the branch may have faulted. ECX clears the upper half, CX leaves the rest alone.
  rcx = insn.address_size == 2 ? (rcx & ~mask) | count : count;
}

template <Width kWidth>
void jump_if_counter_zero(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  context.op = op;
  if ((context.cpu.state.gpr[x86::kRcx] & low_mask(op->insn->address_size * 8U)) == 0) {
    take<kWidth>(context, op);
  } else {
    fall_through(context, op);
  }
}

template <Width kWidth, std::size_t... kConditions>
constexpr std::array<Handler, sizeof...(kConditions)> conditional_handlers(std::index_sequence<kConditions...>) {
  return {jump_if<kWidth, kConditions>...};
}

template <Width kWidth>
Handler handler_for(const Insn& insn) {
  static constexpr auto kJumps = conditional_handlers<kWidth>(std::make_index_sequence<isa::kJumpConditions>{});
  if (const std::optional<unsigned> condition = isa::jump_condition(insn.mnemonic)) return kJumps[*condition];
  const bool relative = insn.op[0].kind == OperandKind::Relative;
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_JMP:
      return relative ? jump_relative<kWidth> : jump_indirect<kWidth>;
    case ZYDIS_MNEMONIC_CALL:
      return relative ? call_relative<kWidth> : call_indirect<kWidth>;
    case ZYDIS_MNEMONIC_RET:
      return return_near<kWidth>;
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
      return loop<kWidth>;
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
      return jump_if_counter_zero<kWidth>;
    default:
      return nullptr;
  }
}

}  // namespace

Handler branch_handler(const Insn& insn, Mode mode) {
  if (insn.far_branch) return nullptr;
  if (insn.operand_size == 2) return handler_for<Width::Bits16>(insn);
  return mode.code_64() ? handler_for<Width::Bits64>(insn) : handler_for<Width::Bits32>(insn);
}

}  // namespace doppel::engine::interp
