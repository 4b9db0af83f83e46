#include "x86/code_segment.h"
#include "x86/segmentation.h"
#include "x86/stack.h"
#include "x86/task_switch.h"
#include "x86/transfer.h"

namespace doppel::x86 {

namespace {

/// IRET frames, in units of the operand size: RIP, CS, RFLAGS, RSP, SS, then ES, DS, FS, GS of virtual-8086 mode.
constexpr unsigned kCsSlot = 1, kFlagsSlot = 2, kRspSlot = 3, kSsSlot = 4, kEsSlot = 5, kDsSlot = 6, kFsSlot = 7,
                   kGsSlot = 8;

std::uint16_t peek_selector(Cpu& cpu, unsigned slot, unsigned size) {
  return static_cast<std::uint16_t>(peek(cpu, std::uint64_t{slot} * size, size));
}

/// The code segment that a return goes to; its RPL becomes CPL.
Descriptor return_code(Cpu& cpu, std::uint16_t selector) {
  Descriptor code = require_descriptor(cpu, selector);
  check_code_type(cpu.state, code);
  const unsigned dpl = code.segment.dpl();
  if (rpl(selector) < cpu.state.cpl() || (code.conforming() ? dpl > rpl(selector) : dpl != rpl(selector)))
    raise_gp(selector_error(selector));
  if (!code.segment.present()) raise(vector::kNp, selector_error(selector));
  return code;
}

/// The stack segment that comes with a return to `code`.
Segment return_stack(Cpu& cpu, const Segment& code, std::uint16_t selector) {
  const unsigned cpl = rpl(code.selector);
  if (is_null(selector)) {
    const bool to_64 = cpu.state.long_mode_active() && code.long_mode();
    if (!to_64 || cpl == 3 || rpl(selector) != cpl) raise_gp(0);
    Segment segment;
    set_null_segment(segment, selector, cpl);
    return segment;
  }
  Descriptor stack = require_descriptor(cpu, selector);
  if (rpl(selector) != cpl || !stack.writable_data() || stack.segment.dpl() != cpl) raise_gp(selector_error(selector));
  if (!stack.segment.present()) raise(vector::kSs, selector_error(selector));
  mark_accessed(cpu, stack);
  return stack.segment;
}

/// After a return to less privilege: data segments that it may not use become null; SDM vol. 2, RET. The base of an FS
/// or GS that was null already is MSR state and stays.
void drop_inaccessible_segments(CpuState& state) {
  for (const SegReg reg : {SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs}) {
    Segment& segment = state.seg(reg);
    const bool conforming = segment.is_code() && (segment.type() & 4) != 0;
    if (is_null(segment.selector)) segment.selector = 0;  // RPL included
    if (segment.selector == 0 || segment.unusable() || conforming || segment.dpl() >= state.cpl()) continue;
    set_null_segment(segment, 0);
  }
}

/// Loads SS and as much of RSP as the new stack has; the rest keeps the old stack's bits.
void enter_stack(CpuState& state, const Segment& ss, std::uint64_t rsp) {
  state.seg(SegReg::Ss) = ss;
  const unsigned size = stack_address_size(state);
  const std::uint64_t kept = size == 2 ? state.gpr[kRsp] & ~low_mask(16) : 0;
  state.gpr[kRsp] = kept | (rsp & low_mask(size * 8));
}

/// The flags that an IRET image changes, at the privilege before the return; SDM vol. 2, IRET.
void load_flags(CpuState& state, std::uint64_t image, unsigned size, unsigned cpl) {
  using namespace rflags;
  std::uint64_t loaded = kStatus | kTf | kDf | kNt;
  if (size >= 4) loaded |= kRf | kAc | kId;
  if (cpl <= bits(state.rflags_without_of, 13, 12)) loaded |= kIf;
  if (cpl == 0) {
    loaded |= kIopl;
    if (size >= 4 && state.protected_mode()) loaded |= kVif | kVip;
  }
  state.set_rflags((state.rflags() & ~loaded) | (image & loaded));
}

/// RETF and IRET of real and virtual-8086 mode: CS and RIP; the caller releases the frame.
void legacy_return(Cpu& cpu, unsigned size) {
  CpuState& state = cpu.state;
  Segment& cs = state.seg(SegReg::Cs);
  const std::uint64_t rip = peek(cpu, 0, size);
  const std::uint16_t selector = peek_selector(cpu, kCsSlot, size);
  if (rip > cs.limit) raise_gp(0);
  if (state.virtual_8086()) {
    set_virtual_8086_segment(cs, selector);
  } else {
    set_real_mode_segment(cs, selector);
  }
  state.rip = rip;
}

void legacy_interrupt_return(Cpu& cpu, unsigned size) {
  CpuState& state = cpu.state;
  const std::uint64_t flags = peek(cpu, std::uint64_t{kFlagsSlot} * size, size);
  legacy_return(cpu, size);
  add_to_stack_pointer(state, 3 * static_cast<std::int64_t>(size));
  load_flags(state, flags, size, state.cpl());
}

void return_to_virtual_8086(Cpu& cpu, std::uint64_t flags) {
  CpuState& state = cpu.state;
  constexpr unsigned kSize = 4;
  const std::uint64_t eip = peek(cpu, 0, kSize);
  const std::uint64_t esp = peek(cpu, std::uint64_t{kRspSlot} * kSize, kSize);
  struct Slot {
    SegReg reg;
    unsigned slot;
    std::uint16_t selector;
  };
  Slot slots[] = {{SegReg::Cs, kCsSlot, 0}, {SegReg::Ss, kSsSlot, 0}, {SegReg::Es, kEsSlot, 0},
                  {SegReg::Ds, kDsSlot, 0}, {SegReg::Fs, kFsSlot, 0}, {SegReg::Gs, kGsSlot, 0}};
  for (Slot& entry : slots) entry.selector = peek_selector(cpu, entry.slot, kSize);
  if (eip > 0xFFFF) raise_gp(0);

  using namespace rflags;
  constexpr std::uint64_t kImage = kStatus | kTf | kIf | kDf | kIopl | kNt | kRf | kVm | kAc | kVif | kVip | kId;
  state.set_rflags(flags & kImage);
  for (const Slot& entry : slots) set_virtual_8086_segment(state.seg(entry.reg), entry.selector);
  state.rip = eip;
  state.gpr[kRsp] = esp;
  cpu.mmu.refresh_view();
}

void protected_interrupt_return(Cpu& cpu, unsigned size) {
  CpuState& state = cpu.state;
  const unsigned cpl = state.cpl();
  const std::uint64_t rip = peek(cpu, 0, size);
  const std::uint16_t selector = peek_selector(cpu, kCsSlot, size);
  const std::uint64_t flags = peek(cpu, std::uint64_t{kFlagsSlot} * size, size);
  if ((flags & rflags::kVm) != 0 && cpl == 0 && size == 4 && !state.long_mode_active())
    return return_to_virtual_8086(cpu, flags);

  Descriptor code = return_code(cpu, selector);
  const unsigned new_cpl = rpl(selector);
  // In 64-bit mode IRET pops SS:RSP even when the privilege does not change.
  const bool pops_stack = new_cpl != cpl || state.code_64();
  if (!pops_stack) {
    check_code_offset(state, code.segment, rip);
    mark_accessed(cpu, code);
    add_to_stack_pointer(state, 3 * static_cast<std::int64_t>(size));
    enter_code_segment(state, code.segment, cpl, rip);
    load_flags(state, flags, size, cpl);
    cpu.mmu.refresh_view();
    return;
  }
  const std::uint64_t rsp = peek(cpu, std::uint64_t{kRspSlot} * size, size);
  // A return to the same privilege looks at RIP before it looks at SS.
  if (new_cpl == cpl) check_code_offset(state, code.segment, rip);
  const Segment ss = return_stack(cpu, code.segment, peek_selector(cpu, kSsSlot, size));
  check_code_offset(state, code.segment, rip);
  mark_accessed(cpu, code);
  enter_code_segment(state, code.segment, new_cpl, rip);
  enter_stack(state, ss, rsp);
  load_flags(state, flags, size, cpl);
  if (new_cpl != cpl) drop_inaccessible_segments(state);
  cpu.mmu.refresh_view();
}

}  // namespace

void far_return(Cpu& cpu, unsigned operand_size, std::uint16_t extra) {
  CpuState& state = cpu.state;
  const std::int64_t released = 2 * static_cast<std::int64_t>(operand_size) + extra;
  if (!state.protected_mode() || state.virtual_8086()) {
    legacy_return(cpu, operand_size);
    add_to_stack_pointer(state, released);
    return;
  }
  const std::uint64_t rip = peek(cpu, 0, operand_size);
  const std::uint16_t selector = peek_selector(cpu, kCsSlot, operand_size);
  Descriptor code = return_code(cpu, selector);
  const unsigned cpl = state.cpl(), new_cpl = rpl(selector);
  if (new_cpl == cpl) {
    check_code_offset(state, code.segment, rip);
    mark_accessed(cpu, code);
    add_to_stack_pointer(state, released);
    enter_code_segment(state, code.segment, cpl, rip);
    cpu.mmu.refresh_view();
    return;
  }
  const std::uint64_t stack = 2 * std::uint64_t{operand_size} + extra;
  const std::uint64_t rsp = peek(cpu, stack, operand_size);
  const auto ss_selector = static_cast<std::uint16_t>(peek(cpu, stack + operand_size, operand_size));
  const Segment ss = return_stack(cpu, code.segment, ss_selector);
  check_code_offset(state, code.segment, rip);
  mark_accessed(cpu, code);
  enter_code_segment(state, code.segment, new_cpl, rip);
  enter_stack(state, ss, rsp);
  add_to_stack_pointer(state, extra);
  drop_inaccessible_segments(state);
  cpu.mmu.refresh_view();
}

void interrupt_return(Cpu& cpu, unsigned operand_size) {
  CpuState& state = cpu.state;
  state.nmi_blocked = false;
  if (!state.protected_mode()) return legacy_interrupt_return(cpu, operand_size);
  if (state.virtual_8086()) {
    if ((state.rflags_without_of & rflags::kIopl) != rflags::kIopl) raise_gp(0);
    return legacy_interrupt_return(cpu, operand_size);
  }
  if ((state.rflags_without_of & rflags::kNt) == 0) return protected_interrupt_return(cpu, operand_size);
  if (state.long_mode_active()) raise_gp(0);
  const auto link = cpu.mmu.read<std::uint16_t>(state.tr.base, implicit_view(state));
  switch_task(cpu, link, TaskSwitchReason::Iret);
}

}  // namespace doppel::x86
