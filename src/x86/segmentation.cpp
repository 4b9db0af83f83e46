#include "x86/segmentation.h"

#include <algorithm>

namespace doppel::x86 {

namespace {

constexpr std::uint32_t kWritableData = 0x93, kWritableDataDpl3 = 0xF3;

[[noreturn]] void raise_for(SegReg segment) {
  raise(segment == SegReg::Ss ? vector::kSs : vector::kGp, 0);
}

bool permits(const Segment& segment, Access access) {
  if (segment.unusable()) return false;
  const bool bit_1 = (segment.type() & 2) != 0;  // of code: readable; of data: writable
  switch (access) {
    case Access::Read:
      return !segment.is_code() || bit_1;
    case Access::Write:
      return !segment.is_code() && bit_1;
    case Access::Execute:
      return segment.is_code();
  }
  return false;
}

void load_stack_segment(Cpu& cpu, std::uint16_t selector) {
  CpuState& state = cpu.state;
  const unsigned cpl = state.cpl();
  if (is_null(selector)) {
    if (!state.code_64() || cpl == 3 || rpl(selector) != cpl) raise_gp(0);
    set_null_segment(state.seg(SegReg::Ss), selector, cpl);
    return;
  }
  Descriptor descriptor = require_descriptor(cpu, selector);
  if (rpl(selector) != cpl || !descriptor.writable_data() || descriptor.segment.dpl() != cpl)
    raise_gp(selector_error(selector));
  if (!descriptor.segment.present()) raise(vector::kSs, selector_error(selector));
  mark_accessed(cpu, descriptor);
  state.seg(SegReg::Ss) = descriptor.segment;
}

}  // namespace

bool within_limit(const Segment& segment, std::uint64_t offset, std::uint64_t size) {
  const std::uint64_t last = offset + size - 1;
  if (!segment.expand_down()) return last <= segment.limit;
  return offset > segment.limit && last <= (segment.default_32() ? 0xFFFF'FFFFU : 0xFFFFU);
}

LinearAddress segment_address(Cpu& cpu, SegReg segment, std::uint64_t offset, std::uint64_t size, Access access) {
  const CpuState& state = cpu.state;
  const Segment& cached = state.seg(segment);
  size = std::max<std::uint64_t>(size, 1);
  if (state.code_64()) {
    const LinearAddress address = segment >= SegReg::Fs ? cached.base + offset : offset;
    if (!is_canonical(address) || !is_canonical(address + size - 1)) raise_for(segment);
    return address;
  }
  if (state.protected_mode() && !state.virtual_8086() && !permits(cached, access)) raise_for(segment);
  if (!within_limit(cached, offset, size)) raise_for(segment);
  return (cached.base + offset) & 0xFFFF'FFFF;
}

void set_real_mode_segment(Segment& segment, std::uint16_t selector) {
  if (segment.unusable()) {
    segment.attributes = kWritableData;
    segment.limit = 0xFFFF;
  }
  segment.selector = selector;
  segment.base = std::uint64_t{selector} << 4;
}

void set_virtual_8086_segment(Segment& segment, std::uint16_t selector) {
  segment.selector = selector;
  segment.base = std::uint64_t{selector} << 4;
  segment.limit = 0xFFFF;
  segment.attributes = kWritableDataDpl3;
}

void set_null_segment(Segment& segment, std::uint16_t selector, unsigned dpl) {
  segment = Segment{};
  segment.selector = selector;
  segment.attributes = Segment::kUnusable | (dpl << 5);
}

void load_segment(Cpu& cpu, SegReg segment, std::uint16_t selector) {
  CpuState& state = cpu.state;
  Segment& target = state.seg(segment);
  if (!state.protected_mode()) return set_real_mode_segment(target, selector);
  if (state.virtual_8086()) return set_virtual_8086_segment(target, selector);
  if (segment == SegReg::Ss) return load_stack_segment(cpu, selector);
  if (is_null(selector)) return set_null_segment(target, selector);

  Descriptor descriptor = require_descriptor(cpu, selector);
  const unsigned dpl = descriptor.segment.dpl();
  if (!descriptor.readable() || (!descriptor.conforming() && (rpl(selector) > dpl || state.cpl() > dpl)))
    raise_gp(selector_error(selector));
  if (!descriptor.segment.present()) raise(vector::kNp, selector_error(selector));
  mark_accessed(cpu, descriptor);
  target = descriptor.segment;
}

}  // namespace doppel::x86
