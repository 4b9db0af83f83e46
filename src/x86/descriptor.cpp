#include "x86/descriptor.h"

#include <atomic>

namespace doppel::x86 {

namespace {

constexpr std::uint16_t kTableIndicator = 4;
constexpr unsigned kAccessByte = 5;
constexpr std::uint8_t kAccessed = 1, kBusy = 2;

bool is_16_bytes_in_long_mode(const Segment& segment) {
  if (segment.code_or_data()) return false;
  const unsigned type = segment.type();
  return type == kLdt || type == kTss32 || type == kTss32Busy || type == kCallGate32;
}

void change_access_byte(Cpu& cpu, const Descriptor& descriptor, std::uint8_t bits, bool set) {
  const LinearAddress address = descriptor.address + kAccessByte;
  const View view = implicit_view(cpu.state);
  if (std::byte* host = cpu.mmu.host(address, 1, Access::Write, view)) {
    const std::atomic_ref<std::uint8_t> byte(*reinterpret_cast<std::uint8_t*>(host));
    if (set) {
      byte.fetch_or(bits);
    } else {
      byte.fetch_and(static_cast<std::uint8_t>(~bits));
    }
    cpu.mmu.wrote(address, 1, view);
    return;
  }
  const auto old = cpu.mmu.read<std::uint8_t>(address, view);
  cpu.mmu.write<std::uint8_t>(address, static_cast<std::uint8_t>(set ? old | bits : old & ~bits), view);
}

}  // namespace

Segment decode_segment(std::uint64_t raw, std::uint16_t selector) {
  Segment segment;
  segment.selector = selector;
  segment.base = bits(raw, 39, 16) | (bits(raw, 63, 56) << 24);
  segment.attributes = static_cast<std::uint32_t>(bits(raw, 47, 40) | (bits(raw, 55, 52) << 12));
  const auto limit = static_cast<std::uint32_t>(bits(raw, 15, 0) | (bits(raw, 51, 48) << 16));
  segment.limit = (segment.attributes & Segment::kG) != 0 ? (limit << 12) | 0xFFF : limit;
  return segment;
}

bool read_descriptor(Cpu& cpu, std::uint16_t selector, Descriptor& descriptor) {
  const CpuState& state = cpu.state;
  const bool local = (selector & kTableIndicator) != 0;
  if (local && state.ldtr.unusable()) return false;
  const std::uint64_t base = local ? state.ldtr.base : state.gdtr.base;
  const std::uint32_t limit = local ? state.ldtr.limit : state.gdtr.limit;
  const std::uint32_t offset = selector & 0xFFF8U;
  if (offset + 7 > limit) return false;

  const View view = implicit_view(state);
  descriptor.address = base + offset;
  if (!state.long_mode_active()) descriptor.address &= 0xFFFF'FFFF;
  descriptor.raw = cpu.mmu.read<std::uint64_t>(descriptor.address, view);
  descriptor.high = 0;
  descriptor.segment = decode_segment(descriptor.raw, selector);
  if (!state.long_mode_active() || !is_16_bytes_in_long_mode(descriptor.segment)) return true;

  if (offset + 15 > limit) return false;
  descriptor.high = cpu.mmu.read<std::uint64_t>(descriptor.address + 8, view);
  descriptor.segment.base |= descriptor.high << 32;
  return bits(descriptor.high, 44, 40) == 0;
}

Descriptor require_descriptor(Cpu& cpu, std::uint16_t selector) {
  if (is_null(selector)) raise_gp(0);
  Descriptor descriptor;
  if (!read_descriptor(cpu, selector, descriptor)) raise_gp(selector_error(selector));
  return descriptor;
}

void mark_accessed(Cpu& cpu, Descriptor& descriptor) {
  if ((descriptor.segment.attributes & kAccessed) != 0) return;
  change_access_byte(cpu, descriptor, kAccessed, true);
  descriptor.segment.attributes |= kAccessed;
}

void mark_busy(Cpu& cpu, Descriptor& descriptor, bool busy) {
  change_access_byte(cpu, descriptor, kBusy, busy);
  descriptor.segment.attributes &= ~std::uint32_t{kBusy};
  if (busy) descriptor.segment.attributes |= kBusy;
}

Gate decode_gate(std::uint64_t low, std::uint64_t high) {
  Gate gate{};
  gate.type = static_cast<unsigned>(bits(low, 43, 40));
  gate.dpl = static_cast<unsigned>(bits(low, 46, 45));
  gate.present = bits(low, 47, 47) != 0;
  gate.selector = static_cast<std::uint16_t>(bits(low, 31, 16));
  gate.offset = bits(low, 15, 0) | (bits(low, 63, 48) << 16) | (high << 32);
  gate.parameters = static_cast<unsigned>(bits(low, 36, 32));
  gate.ist = static_cast<unsigned>(bits(low, 34, 32));
  // S set: not a gate at all. No gate has type 0.
  if (bits(low, 44, 44) != 0) gate.type = 0;
  return gate;
}

}  // namespace doppel::x86
