#include "x86/stack_switch.h"

#include "x86/segmentation.h"
#include "x86/stack.h"

namespace doppel::x86 {

namespace {

/// SDM vol. 3, figure 7-11 (64-bit TSS), 7-2 (32-bit), 7-10 (16-bit): where the stack of level 0 is, bytes per level.
constexpr std::uint32_t kRsp0 = 4, kIst1 = 0x24, kEsp0 = 4, kSp0 = 2;

/// The view that a frame for level `cpl` is written with. EFLAGS.AC of less privileged code opens nothing.
View frame_view(const CpuState& state, unsigned cpl) {
  if (cpl == 3) return View::User;
  const bool user_pages_open =
      (state.cr4 & cr4::kSmap) == 0 || ((state.rflags_without_of & rflags::kAc) != 0 && state.cpl() < 3);
  return user_pages_open ? View::Supervisor : View::SupervisorSmap;
}

[[noreturn]] void raise_ts(std::uint16_t selector) {
  raise(vector::kTs, selector_error(selector));
}

LinearAddress tss_field(const CpuState& state, std::uint32_t offset, std::uint32_t size) {
  if (offset + size - 1 > state.tr.limit) raise_ts(state.tr.selector);
  return state.long_mode_active() ? state.tr.base + offset : (state.tr.base + offset) & 0xFFFF'FFFF;
}

std::uint64_t read_rsp(Cpu& cpu, std::uint32_t offset) {
  const auto rsp = cpu.mmu.read<std::uint64_t>(tss_field(cpu.state, offset, 8), implicit_view(cpu.state));
  if (!is_canonical(rsp)) raise(vector::kSs, 0);
  return rsp;
}

Segment inner_stack_segment(Cpu& cpu, std::uint16_t selector, unsigned cpl) {
  Descriptor descriptor;
  if (is_null(selector) || rpl(selector) != cpl || !read_descriptor(cpu, selector, descriptor) ||
      !descriptor.writable_data() || descriptor.segment.dpl() != cpl)
    raise_ts(selector);
  if (!descriptor.segment.present()) raise(vector::kSs, selector_error(selector));
  mark_accessed(cpu, descriptor);
  return descriptor.segment;
}

}  // namespace

PendingStack PendingStack::current(Cpu& cpu) {
  const CpuState& state = cpu.state;
  return {cpu, state.seg(SegReg::Ss), state.gpr[kRsp], stack_address_size(state), cpu.mmu.data_view(), 0};
}

PendingStack PendingStack::inner(Cpu& cpu, unsigned cpl) {
  const CpuState& state = cpu.state;
  if (state.long_mode_active()) {
    const std::uint64_t rsp = read_rsp(cpu, kRsp0 + 8 * cpl);
    Segment ss;
    set_null_segment(ss, static_cast<std::uint16_t>(cpl), cpl);
    return {cpu, ss, rsp, 8, frame_view(state, cpl), 0};
  }
  const View view = implicit_view(state);
  std::uint32_t esp = 0;
  std::uint16_t selector = 0;
  if (state.tr.type() == kTss32Busy || state.tr.type() == kTss32) {
    const LinearAddress field = tss_field(state, kEsp0 + 8 * cpl, 6);
    esp = cpu.mmu.read<std::uint32_t>(field, view);
    selector = cpu.mmu.read<std::uint16_t>(field + 4, view);
  } else {
    const LinearAddress field = tss_field(state, kSp0 + 4 * cpl, 4);
    esp = cpu.mmu.read<std::uint16_t>(field, view);
    selector = cpu.mmu.read<std::uint16_t>(field + 2, view);
  }
  const Segment ss = inner_stack_segment(cpu, selector, cpl);
  return {cpu, ss, esp, ss.default_32() ? 4U : 2U, frame_view(state, cpl), selector_error(selector)};
}

PendingStack PendingStack::interrupt_stack_table(Cpu& cpu, unsigned ist, unsigned cpl) {
  const CpuState& state = cpu.state;
  const std::uint64_t rsp = read_rsp(cpu, kIst1 + 8 * (ist - 1));
  Segment ss = state.seg(SegReg::Ss);
  if (cpl != state.cpl()) set_null_segment(ss, static_cast<std::uint16_t>(cpl), cpl);
  return {cpu, ss, rsp, 8, frame_view(state, cpl), 0};
}

void PendingStack::prepare_long_mode_frame() {
  rsp_ = align_down(rsp_, 16);
  address_size_ = 8;
}

void PendingStack::push(std::uint64_t value, unsigned size) {
  const std::uint64_t mask = low_mask(address_size_ * 8);
  const std::uint64_t offset = (rsp_ - size) & mask;
  LinearAddress address = offset;
  if (address_size_ == 8) {
    if (!is_canonical(offset) || !is_canonical(offset + size - 1)) raise(vector::kSs, error_code_);
  } else {
    if (!within_limit(ss_, offset, size)) raise(vector::kSs, error_code_);
    address = (ss_.base + offset) & 0xFFFF'FFFF;
  }
  switch (size) {
    case 2:
      cpu_.mmu.write(address, static_cast<std::uint16_t>(value), view_);
      break;
    case 4:
      cpu_.mmu.write(address, static_cast<std::uint32_t>(value), view_);
      break;
    default:
      cpu_.mmu.write(address, value, view_);
      break;
  }
  rsp_ = address_size_ == 2 ? (rsp_ & ~mask) | offset : offset;
}

void PendingStack::commit() {
  cpu_.state.seg(SegReg::Ss) = ss_;
  cpu_.state.gpr[kRsp] = rsp_;
}

}  // namespace doppel::x86
