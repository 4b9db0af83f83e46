#include "x86/task_switch.h"

#include <array>

#include "x86/code_segment.h"
#include "x86/control_registers.h"
#include "x86/segmentation.h"
#include "x86/stack.h"

namespace doppel::x86 {

namespace {

/// Where the two kinds of TSS keep what; SDM vol. 3, figures 7-2 and 7-10. Each general register, in the order of their
/// encoding, has `width` bytes, and so has each segment register.
struct Layout {
  unsigned width;
  std::uint32_t minimum_limit;
  std::uint32_t eip, eflags, eax, es, ldt;
  unsigned segments;
};
constexpr Layout kLayout32{4, 0x67, 0x20, 0x24, 0x28, 0x48, 0x60, 6};
constexpr Layout kLayout16{2, 0x2B, 0x0E, 0x10, 0x12, 0x22, 0x2A, 4};
constexpr std::uint32_t kCr3Offset = 0x1C, kTrapOffset = 0x64;
constexpr unsigned kGprs = 8;

constexpr std::uint64_t kDr6Bt = bit(15);
/// DR7's L0–L3 and LE.
constexpr std::uint64_t kDr7Local = 0x155;

const Layout& layout_of(const Segment& tss) {
  return (tss.type() & 8) != 0 ? kLayout32 : kLayout16;
}

/// A task's registers as its TSS holds them.
struct Image {
  std::uint32_t eip = 0, eflags = 0, cr3 = 0;
  std::array<std::uint32_t, kGprs> gpr{};
  std::array<std::uint16_t, 6> selector{};
  std::uint16_t ldt = 0;
  bool trap = false;
};

class TssMemory {
 public:
  TssMemory(Cpu& cpu, const Segment& tss)
      : cpu_(cpu), base_(tss.base), layout_(layout_of(tss)), view_(implicit_view(cpu.state)) {}

  std::uint32_t read(std::uint32_t offset) const {
    return layout_.width == 4 ? cpu_.mmu.read<std::uint32_t>(at(offset), view_)
                              : cpu_.mmu.read<std::uint16_t>(at(offset), view_);
  }
  void write(std::uint32_t offset, std::uint64_t value) const {
    if (layout_.width == 4) {
      cpu_.mmu.write(at(offset), static_cast<std::uint32_t>(value), view_);
    } else {
      cpu_.mmu.write(at(offset), static_cast<std::uint16_t>(value), view_);
    }
  }
  void write_link(std::uint16_t selector) const { cpu_.mmu.write(at(0), selector, view_); }
  void probe(std::uint32_t first, std::uint32_t last, Access access) const {
    cpu_.mmu.probe(at(first), last - first + 1, access, view_);
  }

  Image load() const {
    Image image;
    image.eip = read(layout_.eip);
    image.eflags = read(layout_.eflags);
    for (unsigned i = 0; i < kGprs; ++i) image.gpr[i] = read(layout_.eax + i * layout_.width);
    for (unsigned i = 0; i < layout_.segments; ++i)
      image.selector[i] = static_cast<std::uint16_t>(read(layout_.es + i * layout_.width));
    image.ldt = static_cast<std::uint16_t>(read(layout_.ldt));
    if (layout_.width == 4) {
      image.cr3 = read(kCr3Offset);
      image.trap = (cpu_.mmu.read<std::uint16_t>(at(kTrapOffset), view_) & 1) != 0;
    }
    return image;
  }

  void save(const CpuState& state, std::uint64_t eflags) const {
    write(layout_.eip, state.rip);
    write(layout_.eflags, eflags);
    for (unsigned i = 0; i < kGprs; ++i) write(layout_.eax + i * layout_.width, state.gpr[i]);
    for (unsigned i = 0; i < layout_.segments; ++i) write(layout_.es + i * layout_.width, state.segment[i].selector);
  }

  const Layout& layout() const { return layout_; }

 private:
  LinearAddress at(std::uint32_t offset) const { return (base_ + offset) & 0xFFFF'FFFF; }

  Cpu& cpu_;
  LinearAddress base_;
  const Layout& layout_;
  View view_;
};

/// The new task's TSS descriptor: available, or busy when an IRET goes back to it.
Descriptor new_tss(Cpu& cpu, std::uint16_t selector, TaskSwitchReason reason) {
  constexpr std::uint16_t kTableIndicator = 4;
  const bool returning = reason == TaskSwitchReason::Iret;
  const std::uint8_t wrong = returning ? vector::kTs : vector::kGp;
  Descriptor tss;
  if (is_null(selector) || (selector & kTableIndicator) != 0 || !read_descriptor(cpu, selector, tss))
    raise(wrong, selector_error(selector));
  const bool usable =
      returning ? tss.system(kTss32Busy) || tss.system(kTss16Busy) : tss.system(kTss32) || tss.system(kTss16);
  if (!usable) raise(wrong, selector_error(selector));
  if (!tss.segment.present()) raise(vector::kNp, selector_error(selector));
  if (tss.segment.limit < layout_of(tss.segment).minimum_limit) raise(vector::kTs, selector_error(selector));
  return tss;
}

[[noreturn]] void raise_ts(std::uint16_t selector) {
  raise(vector::kTs, selector_error(selector));
}

Descriptor task_descriptor(Cpu& cpu, std::uint16_t selector) {
  Descriptor descriptor;
  if (is_null(selector) || !read_descriptor(cpu, selector, descriptor)) raise_ts(selector);
  return descriptor;
}

void load_task_ldt(Cpu& cpu, std::uint16_t selector) {
  if (is_null(selector)) return;
  constexpr std::uint16_t kTableIndicator = 4;
  if ((selector & kTableIndicator) != 0) raise_ts(selector);
  const Descriptor ldt = task_descriptor(cpu, selector);
  if (!ldt.system(kLdt) || !ldt.segment.present()) raise_ts(selector);
  cpu.state.ldtr = ldt.segment;
}

void load_task_cs(Cpu& cpu, std::uint16_t selector) {
  Descriptor code = task_descriptor(cpu, selector);
  const unsigned cpl = rpl(selector), dpl = code.segment.dpl();
  if (!code.segment.is_code() || (code.conforming() ? dpl > cpl : dpl != cpl)) raise_ts(selector);
  if (!code.segment.present()) raise(vector::kNp, selector_error(selector));
  mark_accessed(cpu, code);
  cpu.state.seg(SegReg::Cs) = code.segment;
}

void load_task_ss(Cpu& cpu, std::uint16_t selector, unsigned cpl) {
  Descriptor stack = task_descriptor(cpu, selector);
  if (!stack.writable_data() || rpl(selector) != cpl || stack.segment.dpl() != cpl) raise_ts(selector);
  if (!stack.segment.present()) raise(vector::kSs, selector_error(selector));
  mark_accessed(cpu, stack);
  cpu.state.seg(SegReg::Ss) = stack.segment;
}

void load_task_data(Cpu& cpu, SegReg reg, std::uint16_t selector, unsigned cpl) {
  if (is_null(selector)) return;
  Descriptor data = task_descriptor(cpu, selector);
  const unsigned dpl = data.segment.dpl();
  if (!data.readable() || (!data.conforming() && (dpl < cpl || dpl < rpl(selector)))) raise_ts(selector);
  if (!data.segment.present()) raise(vector::kNp, selector_error(selector));
  mark_accessed(cpu, data);
  cpu.state.seg(reg) = data.segment;
}

/// Everything of the image that needs no check. Segment registers hold their selectors, nothing behind them yet; CPL
/// is the new task's.
void enter_task(Cpu& cpu, const Image& image) {
  CpuState& state = cpu.state;
  for (unsigned i = 0; i < kGprs; ++i) state.gpr[i] = image.gpr[i];
  state.rip = image.eip;
  using namespace rflags;
  constexpr std::uint64_t kImage = kStatus | kTf | kIf | kDf | kIopl | kNt | kRf | kVm | kAc | kVif | kVip | kId;
  state.set_rflags(image.eflags & kImage);
  const bool virtual_8086 = state.virtual_8086();
  const unsigned cpl = rpl(image.selector[static_cast<std::size_t>(SegReg::Cs)]);
  for (std::size_t i = 0; i < state.segment.size(); ++i) {
    if (virtual_8086) {
      set_virtual_8086_segment(state.segment[i], image.selector[i]);
    } else {
      set_null_segment(state.segment[i], image.selector[i], cpl);
    }
  }
  set_null_segment(state.ldtr, image.ldt);
  state.cr0 |= cr0::kTs;
  cpu.instruction_start = state.rip;
  cpu.mmu.refresh_view();
}

/// The checked part: SDM vol. 3, table 7-1. Faults belong to the new task.
void load_task_segments(Cpu& cpu, const Image& image) {
  CpuState& state = cpu.state;
  load_task_ldt(cpu, image.ldt);
  if (state.virtual_8086()) return;
  const auto selector = [&image](SegReg reg) { return image.selector[static_cast<std::size_t>(reg)]; };
  const unsigned cpl = rpl(selector(SegReg::Cs));
  load_task_cs(cpu, selector(SegReg::Cs));
  load_task_ss(cpu, selector(SegReg::Ss), cpl);
  for (const SegReg reg : {SegReg::Ds, SegReg::Es, SegReg::Fs, SegReg::Gs}) {
    load_task_data(cpu, reg, selector(reg), cpl);
  }
}

void disable_local_breakpoints(Cpu& cpu) {
  CpuState& state = cpu.state;
  if ((state.dr7 & kDr7Local) == 0) return;
  state.dr7 &= ~kDr7Local;
  refresh_debug_watches(cpu);
}

}  // namespace

void switch_task(Cpu& cpu, std::uint16_t selector, TaskSwitchReason reason, const std::uint32_t* error_code,
                 std::uint64_t saved_flags) {
  CpuState& state = cpu.state;
  const bool nested = reason == TaskSwitchReason::Call || reason == TaskSwitchReason::Gate;
  Descriptor tss = new_tss(cpu, selector, reason);
  const TssMemory incoming(cpu, tss.segment), outgoing(cpu, state.tr);

  // Nothing may fault once memory changes.
  const Layout& old_layout = outgoing.layout();
  const std::uint32_t saved_end = old_layout.es + old_layout.segments * old_layout.width - 1;
  outgoing.probe(old_layout.eip, saved_end, Access::Write);
  incoming.probe(0, incoming.layout().minimum_limit, Access::Read);
  if (nested) incoming.probe(0, 1, Access::Write);
  Image image = incoming.load();

  Descriptor old_tss;
  const bool leaves_old = !nested && !is_null(state.tr.selector) && read_descriptor(cpu, state.tr.selector, old_tss);
  if (leaves_old) mark_busy(cpu, old_tss, false);
  if (reason != TaskSwitchReason::Iret) mark_busy(cpu, tss, true);
  std::uint64_t old_flags = state.rflags() | saved_flags;
  if (reason == TaskSwitchReason::Iret) old_flags &= ~rflags::kNt;
  outgoing.save(state, old_flags);
  if (nested) {
    incoming.write_link(state.tr.selector);
    image.eflags |= static_cast<std::uint32_t>(rflags::kNt);
  }

  state.tr = tss.segment;
  enter_task(cpu, image);
  if (incoming.layout().width == 4 && (state.cr0 & cr0::kPg) != 0) write_cr3(cpu, image.cr3);
  disable_local_breakpoints(cpu);
  load_task_segments(cpu, image);
  if (error_code != nullptr) push(cpu, *error_code, incoming.layout().width);
  if (image.trap) state.pending_debug |= kDr6Bt;
  if (!state.virtual_8086()) check_code_offset(state, state.seg(SegReg::Cs), state.rip);
}

}  // namespace doppel::x86
