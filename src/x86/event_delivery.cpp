#include "x86/event_delivery.h"

#include "x86/code_segment.h"
#include "x86/segmentation.h"
#include "x86/stack_switch.h"
#include "x86/task_switch.h"

namespace doppel::x86 {

namespace {

constexpr std::uint32_t bit_of(unsigned vector) {
  return std::uint32_t{1} << vector;
}
/// Exceptions with an error code; SDM vol. 3, table 6-1.
constexpr std::uint32_t kHasErrorCode = bit_of(vector::kDf) | bit_of(vector::kTs) | bit_of(vector::kNp) |
                                        bit_of(vector::kSs) | bit_of(vector::kGp) | bit_of(vector::kPf) |
                                        bit_of(vector::kAc);
/// Of these, the ones whose error code names a selector and has the EXT bit; SDM vol. 3, 6.13.
constexpr std::uint32_t kSelectorErrorCode =
    bit_of(vector::kTs) | bit_of(vector::kNp) | bit_of(vector::kSs) | bit_of(vector::kGp);
constexpr std::uint32_t kExt = 1, kIdt = 2;

bool is_in(std::uint32_t set, unsigned vector) {
  return vector < 32 && (set >> vector & 1) != 0;
}

bool has_error_code(const Event& event) {
  return event.type == EventType::HardwareException && is_in(kHasErrorCode, event.vector);
}

/// INT n, INT3 and INTO: the gate's DPL counts, and faults on the way are not "external".
bool is_software(EventType type) {
  return type == EventType::SoftwareInterrupt || type == EventType::SoftwareException;
}

std::uint64_t pushed_flags(const CpuState& state, const Event& event) {
  return state.rflags() | (event.sets_rf ? rflags::kRf : 0);
}

constexpr std::uint64_t kClearedByGate = rflags::kTf | rflags::kNt | rflags::kRf | rflags::kVm;

bool is_trap_gate(const Gate& gate) {
  return gate.type == kTrapGate16 || gate.type == kTrapGate32;
}

void clear_flags(CpuState& state, const Gate& gate) {
  std::uint64_t cleared = kClearedByGate;
  if (!is_trap_gate(gate)) cleared |= rflags::kIf;
  state.set_rflags(state.rflags() & ~cleared);
}

// SDM vol. 3, 20.1.4.
void deliver_real_mode(Cpu& cpu, const Event& event) {
  CpuState& state = cpu.state;
  const std::uint32_t offset = event.vector * 4U;
  if (offset + 3 > state.idtr.limit) raise_gp(0);
  const auto entry = cpu.mmu.read<std::uint32_t>((state.idtr.base + offset) & 0xFFFF'FFFF, implicit_view(state));
  PendingStack stack = PendingStack::current(cpu);
  stack.push(pushed_flags(state, event), 2);
  stack.push(state.seg(SegReg::Cs).selector, 2);
  stack.push(state.rip, 2);
  stack.commit();
  set_real_mode_segment(state.seg(SegReg::Cs), static_cast<std::uint16_t>(entry >> 16));
  state.rip = entry & 0xFFFF;
  state.set_rflags(state.rflags() & ~(rflags::kIf | rflags::kTf | rflags::kRf | rflags::kAc));
}

bool is_interrupt_gate(const CpuState& state, unsigned type) {
  if (type == kInterruptGate32 || type == kTrapGate32) return true;
  return !state.long_mode_active() && (type == kInterruptGate16 || type == kTrapGate16 || type == kTaskGate);
}

Gate read_gate(Cpu& cpu, const Event& event) {
  const CpuState& state = cpu.state;
  const std::uint32_t error = event.vector * 8U | kIdt;
  const std::uint32_t size = state.long_mode_active() ? 16 : 8;
  const std::uint32_t offset = event.vector * size;
  if (offset + size - 1 > state.idtr.limit) raise_gp(error);

  const View view = implicit_view(state);
  LinearAddress address = state.idtr.base + offset;
  if (!state.long_mode_active()) address &= 0xFFFF'FFFF;
  const auto low = cpu.mmu.read<std::uint64_t>(address, view);
  const std::uint64_t high = state.long_mode_active() ? cpu.mmu.read<std::uint64_t>(address + 8, view) : 0;
  Gate gate = decode_gate(low, high & 0xFFFF'FFFF);
  if (!is_interrupt_gate(state, gate.type)) raise_gp(error);
  if (is_software(event.type) && gate.dpl < state.cpl()) raise_gp(error);
  if (!gate.present) raise(vector::kNp, error);
  if (gate.type == kInterruptGate16 || gate.type == kTrapGate16) gate.offset &= 0xFFFF;
  return gate;
}

/// The handler's code segment.
Descriptor handler_code(Cpu& cpu, const Gate& gate) {
  const CpuState& state = cpu.state;
  Descriptor code = require_descriptor(cpu, gate.selector);
  const std::uint32_t error = selector_error(gate.selector);
  check_code_type(state, code);
  if (code.segment.dpl() > state.cpl() || (state.long_mode_active() && !code.segment.long_mode())) raise_gp(error);
  if (!code.segment.present()) raise(vector::kNp, error);
  // Virtual-8086 mode is left for level 0 only.
  if (state.virtual_8086() && (code.conforming() || code.segment.dpl() != 0)) raise_gp(error);
  check_code_offset(state, code.segment, gate.offset);
  return code;
}

/// GS, FS, DS and ES of virtual-8086 mode go to the inner stack too, and become null.
constexpr SegReg kVirtual8086Frame[] = {SegReg::Gs, SegReg::Fs, SegReg::Ds, SegReg::Es};

// SDM vol. 3, 6.12.1 and 20.3.
void deliver_protected_mode(Cpu& cpu, const Event& event, const Gate& gate, Descriptor& code) {
  CpuState& state = cpu.state;
  const unsigned size = gate.type == kInterruptGate16 || gate.type == kTrapGate16 ? 2 : 4;
  const bool from_virtual_8086 = state.virtual_8086();
  const bool inner = !code.conforming() && code.segment.dpl() < state.cpl();
  const unsigned cpl = inner ? code.segment.dpl() : state.cpl();
  PendingStack stack = inner ? PendingStack::inner(cpu, cpl) : PendingStack::current(cpu);
  mark_accessed(cpu, code);
  if (from_virtual_8086) {
    for (const SegReg reg : kVirtual8086Frame) stack.push(state.seg(reg).selector, size);
  }
  if (inner) {
    stack.push(state.seg(SegReg::Ss).selector, size);
    stack.push(state.gpr[kRsp], size);
  }
  stack.push(pushed_flags(state, event), size);
  stack.push(state.seg(SegReg::Cs).selector, size);
  stack.push(state.rip, size);
  if (has_error_code(event)) stack.push(event.error_code, size);

  stack.commit();
  if (from_virtual_8086) {
    for (const SegReg reg : kVirtual8086Frame) set_null_segment(state.seg(reg), 0);
  }
  enter_code_segment(state, code.segment, cpl, gate.offset);
  clear_flags(state, gate);
}

// SDM vol. 3, 6.14.
void deliver_long_mode(Cpu& cpu, const Event& event, const Gate& gate, Descriptor& code) {
  CpuState& state = cpu.state;
  constexpr unsigned kSize = 8;
  const bool inner = !code.conforming() && code.segment.dpl() < state.cpl();
  const unsigned cpl = inner ? code.segment.dpl() : state.cpl();
  PendingStack stack = gate.ist != 0 ? PendingStack::interrupt_stack_table(cpu, gate.ist, cpl)
                       : inner       ? PendingStack::inner(cpu, cpl)
                                     : PendingStack::current(cpu);
  mark_accessed(cpu, code);
  stack.prepare_long_mode_frame();
  stack.push(state.seg(SegReg::Ss).selector, kSize);
  stack.push(state.gpr[kRsp], kSize);
  stack.push(pushed_flags(state, event), kSize);
  stack.push(state.seg(SegReg::Cs).selector, kSize);
  stack.push(state.rip, kSize);
  if (has_error_code(event)) stack.push(event.error_code, kSize);

  stack.commit();
  enter_code_segment(state, code.segment, cpl, gate.offset);
  clear_flags(state, gate);
}

void deliver(Cpu& cpu, const Event& event) {
  CpuState& state = cpu.state;
  if (!state.protected_mode()) return deliver_real_mode(cpu, event);
  // The monitor of virtual-8086 mode sees INT n unless IOPL is 3; INT3, INTO and INT1 go through their gates.
  if (state.virtual_8086() && event.type == EventType::SoftwareInterrupt &&
      (state.rflags_without_of & rflags::kIopl) != rflags::kIopl)
    raise_gp(0);

  const Gate gate = read_gate(cpu, event);
  if (gate.type == kTaskGate) {
    const std::uint32_t* error_code = has_error_code(event) ? &event.error_code : nullptr;
    switch_task(cpu, gate.selector, TaskSwitchReason::Gate, error_code, event.sets_rf ? rflags::kRf : 0);
    return;
  }
  Descriptor code = handler_code(cpu, gate);
  if (state.long_mode_active()) {
    deliver_long_mode(cpu, event, gate, code);
  } else {
    deliver_protected_mode(cpu, event, gate, code);
  }
  cpu.mmu.refresh_view();
}

}  // namespace

void deliver_event(Cpu& cpu, const Event& event) {
  try {
    deliver(cpu, event);
  } catch (Fault& fault) {
    if (!is_software(event.type) && is_in(kSelectorErrorCode, fault.vector)) fault.error_code |= kExt;
    throw;
  }
}

}  // namespace doppel::x86
