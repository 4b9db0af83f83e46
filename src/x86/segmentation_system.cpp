#include "x86/segmentation.h"

namespace doppel::x86 {

namespace {

constexpr std::uint16_t kTableIndicator = 4;

/// The descriptor of an LDT or TSS, which must be in the GDT.
Descriptor global_descriptor(Cpu& cpu, std::uint16_t selector) {
  if ((selector & kTableIndicator) != 0) raise_gp(selector_error(selector));
  return require_descriptor(cpu, selector);
}

void check_base(const CpuState& state, const Descriptor& descriptor, std::uint16_t selector) {
  if (state.long_mode_active() && !is_canonical(descriptor.segment.base)) raise_gp(selector_error(selector));
}

}  // namespace

void load_ldtr(Cpu& cpu, std::uint16_t selector) {
  if (is_null(selector)) return set_null_segment(cpu.state.ldtr, selector);
  const Descriptor descriptor = global_descriptor(cpu, selector);
  if (!descriptor.system(kLdt)) raise_gp(selector_error(selector));
  if (!descriptor.segment.present()) raise(vector::kNp, selector_error(selector));
  check_base(cpu.state, descriptor, selector);
  cpu.state.ldtr = descriptor.segment;
}

void load_task_register(Cpu& cpu, std::uint16_t selector) {
  Descriptor descriptor = global_descriptor(cpu, selector);
  const bool tss = descriptor.system(kTss32) || (descriptor.system(kTss16) && !cpu.state.long_mode_active());
  if (!tss) raise_gp(selector_error(selector));
  if (!descriptor.segment.present()) raise(vector::kNp, selector_error(selector));
  check_base(cpu.state, descriptor, selector);
  mark_busy(cpu, descriptor, true);
  cpu.state.tr = descriptor.segment;
}

}  // namespace doppel::x86
