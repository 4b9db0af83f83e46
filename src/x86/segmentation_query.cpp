#include <algorithm>

#include "x86/segmentation.h"

namespace doppel::x86 {

namespace {

constexpr unsigned type_bit(SystemType type) {
  return 1U << type;
}

/// System descriptors that LAR and LSL accept; SDM vol. 2, tables 3-53 and 3-54.
constexpr unsigned kLarLong = type_bit(kLdt) | type_bit(kTss32) | type_bit(kTss32Busy) | type_bit(kCallGate32);
constexpr unsigned kLarLegacy =
    kLarLong | type_bit(kTss16) | type_bit(kTss16Busy) | type_bit(kCallGate16) | type_bit(kTaskGate);
constexpr unsigned kLslLong = type_bit(kLdt) | type_bit(kTss32) | type_bit(kTss32Busy);
constexpr unsigned kLslLegacy = kLslLong | type_bit(kTss16) | type_bit(kTss16Busy);

/// The descriptor, if the current privilege may see it.
bool visible_descriptor(Cpu& cpu, std::uint16_t selector, Descriptor& descriptor) {
  if (is_null(selector) || !read_descriptor(cpu, selector, descriptor)) return false;
  return descriptor.conforming() || descriptor.segment.dpl() >= std::max(cpu.state.cpl(), rpl(selector));
}

bool type_is_one_of(const CpuState& state, const Segment& segment, unsigned legacy, unsigned long_mode) {
  if (segment.code_or_data()) return true;
  return ((state.long_mode_active() ? long_mode : legacy) >> segment.type() & 1) != 0;
}

}  // namespace

bool load_access_rights(Cpu& cpu, std::uint16_t selector, std::uint32_t& rights) {
  Descriptor descriptor;
  if (!visible_descriptor(cpu, selector, descriptor)) return false;
  if (!type_is_one_of(cpu.state, descriptor.segment, kLarLegacy, kLarLong)) return false;
  // Bits 16-19 are undefined; processors leave there what the descriptor has.
  rights = static_cast<std::uint32_t>(descriptor.raw >> 32) & 0x00FF'FF00;
  return true;
}

bool load_segment_limit(Cpu& cpu, std::uint16_t selector, std::uint32_t& limit) {
  Descriptor descriptor;
  if (!visible_descriptor(cpu, selector, descriptor)) return false;
  if (!type_is_one_of(cpu.state, descriptor.segment, kLslLegacy, kLslLong)) return false;
  limit = descriptor.segment.limit;
  return true;
}

bool verify_segment(Cpu& cpu, std::uint16_t selector, bool for_writing) {
  Descriptor descriptor;
  if (!visible_descriptor(cpu, selector, descriptor)) return false;
  return for_writing ? descriptor.writable_data() : descriptor.readable();
}

}  // namespace doppel::x86
