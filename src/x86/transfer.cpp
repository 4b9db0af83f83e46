#include "x86/transfer.h"

#include <algorithm>
#include <array>

#include "x86/code_segment.h"
#include "x86/segmentation.h"
#include "x86/stack.h"
#include "x86/stack_switch.h"
#include "x86/task_switch.h"

namespace doppel::x86 {

namespace {

enum class Kind : std::uint8_t { Jump, Call };

void push_return_address(const CpuState& state, PendingStack& stack, unsigned size) {
  stack.push(state.seg(SegReg::Cs).selector, size);
  stack.push(state.rip, size);
}

void legacy_transfer(Cpu& cpu, Kind kind, std::uint16_t selector, std::uint64_t offset, unsigned size) {
  CpuState& state = cpu.state;
  Segment& cs = state.seg(SegReg::Cs);
  if (kind == Kind::Call) probe_push(cpu, size);  // goes before the target's limit
  if (offset > cs.limit) raise_gp(0);
  if (kind == Kind::Call) {
    PendingStack stack = PendingStack::current(cpu);
    push_return_address(state, stack, size);
    stack.commit();
  }
  if (state.virtual_8086()) {
    set_virtual_8086_segment(cs, selector);
  } else {
    set_real_mode_segment(cs, selector);
  }
  state.rip = offset;
}

void to_code_segment(Cpu& cpu, Kind kind, Descriptor& code, std::uint64_t offset, unsigned size) {
  CpuState& state = cpu.state;
  const std::uint16_t selector = code.segment.selector;
  const unsigned cpl = state.cpl(), dpl = code.segment.dpl();
  check_code_type(state, code);
  if (code.conforming() ? dpl > cpl : dpl != cpl || rpl(selector) > cpl) raise_gp(selector_error(selector));
  if (!code.segment.present()) raise(vector::kNp, selector_error(selector));
  if (kind == Kind::Call) probe_push(cpu, size);  // goes before the target's limit
  check_code_offset(state, code.segment, offset);
  mark_accessed(cpu, code);
  if (kind == Kind::Call) {
    PendingStack stack = PendingStack::current(cpu);
    push_return_address(state, stack, size);
    stack.commit();
  }
  enter_code_segment(state, code.segment, cpl, offset);
}

/// #GP and #NP of a gate or TSS that is jumped to: its DPL must not be below CPL and RPL.
void check_gate_access(const CpuState& state, std::uint16_t selector, unsigned dpl, bool present) {
  if (dpl < std::max(state.cpl(), rpl(selector))) raise_gp(selector_error(selector));
  if (!present) raise(vector::kNp, selector_error(selector));
}

void call_inner_level(Cpu& cpu, const Gate& gate, const Segment& code, unsigned size) {
  CpuState& state = cpu.state;
  const unsigned cpl = code.dpl();
  PendingStack stack = PendingStack::inner(cpu, cpl);
  // Call gates of long mode have no parameters.
  const unsigned count = size == 8 ? 0 : gate.parameters;
  std::array<std::uint64_t, 32> parameters{};
  for (unsigned i = 0; i < count; ++i) parameters[i] = peek(cpu, std::uint64_t{i} * size, size);

  stack.push(state.seg(SegReg::Ss).selector, size);
  stack.push(state.gpr[kRsp], size);
  for (unsigned i = count; i-- > 0;) stack.push(parameters[i], size);
  push_return_address(state, stack, size);
  stack.commit();
  enter_code_segment(state, code, cpl, gate.offset);
}

void through_call_gate(Cpu& cpu, Kind kind, const Descriptor& descriptor) {
  CpuState& state = cpu.state;
  const bool long_mode = state.long_mode_active();
  Gate gate = decode_gate(descriptor.raw, descriptor.high);
  check_gate_access(state, descriptor.segment.selector, gate.dpl, gate.present);

  Descriptor code = require_descriptor(cpu, gate.selector);
  const std::uint32_t error = selector_error(gate.selector);
  const unsigned cpl = state.cpl(), dpl = code.segment.dpl();
  check_code_type(state, code);
  if (dpl > cpl || (long_mode && !code.segment.long_mode())) raise_gp(error);
  if (kind == Kind::Jump && !code.conforming() && dpl != cpl) raise_gp(error);
  if (!code.segment.present()) raise(vector::kNp, error);

  unsigned size = long_mode ? 8 : 4;
  if (gate.type == kCallGate16) {
    size = 2;
    gate.offset &= 0xFFFF;
  }
  check_code_offset(state, code.segment, gate.offset);
  mark_accessed(cpu, code);
  if (kind == Kind::Call && !code.conforming() && dpl < cpl) return call_inner_level(cpu, gate, code.segment, size);
  if (kind == Kind::Call) {
    PendingStack stack = PendingStack::current(cpu);
    push_return_address(state, stack, size);
    stack.commit();
  }
  enter_code_segment(state, code.segment, cpl, gate.offset);
}

void to_system_descriptor(Cpu& cpu, Kind kind, const Descriptor& descriptor) {
  CpuState& state = cpu.state;
  const std::uint16_t selector = descriptor.segment.selector;
  const unsigned type = descriptor.segment.type();
  if (type == kCallGate32 || (type == kCallGate16 && !state.long_mode_active()))
    return through_call_gate(cpu, kind, descriptor);

  const bool task = type == kTaskGate || type == kTss16 || type == kTss32;
  if (!task || state.long_mode_active()) raise_gp(selector_error(selector));
  check_gate_access(state, selector, descriptor.segment.dpl(), descriptor.segment.present());
  const std::uint16_t tss = type == kTaskGate ? decode_gate(descriptor.raw, 0).selector : selector;
  switch_task(cpu, tss, kind == Kind::Call ? TaskSwitchReason::Call : TaskSwitchReason::Jump);
}

void far_transfer(Cpu& cpu, Kind kind, std::uint16_t selector, std::uint64_t offset, unsigned size) {
  CpuState& state = cpu.state;
  offset &= low_mask(size * 8);
  if (!state.protected_mode() || state.virtual_8086()) return legacy_transfer(cpu, kind, selector, offset, size);
  Descriptor descriptor = require_descriptor(cpu, selector);
  if (descriptor.segment.code_or_data()) {
    to_code_segment(cpu, kind, descriptor, offset, size);
  } else {
    to_system_descriptor(cpu, kind, descriptor);
  }
  cpu.mmu.refresh_view();
}

}  // namespace

void far_jump(Cpu& cpu, std::uint16_t selector, std::uint64_t offset, unsigned operand_size) {
  far_transfer(cpu, Kind::Jump, selector, offset, operand_size);
}

void far_call(Cpu& cpu, std::uint16_t selector, std::uint64_t offset, unsigned operand_size) {
  far_transfer(cpu, Kind::Call, selector, offset, operand_size);
}

}  // namespace doppel::x86
