#include "devices/pit_counter.h"

namespace doppel::devices {

std::uint16_t to_bcd(unsigned value) {
  return static_cast<std::uint16_t>(value % 10 | value / 10 % 10 << 4 | value / 100 % 10 << 8 |
                                    value / 1000 % 10 << 12);
}

unsigned from_bcd(std::uint16_t value) {
  return (value & 0xFu) + (value >> 4 & 0xFu) * 10 + (value >> 8 & 0xFu) * 100 + (value >> 12 & 0xFu) * 1000;
}

std::uint16_t PitCount::value(std::uint64_t ticks) const {
  if (mode == 2) return static_cast<std::uint16_t>(count - ticks % count);
  if (mode == 3) {
    // Decremented by two, twice through a period: from the even number at or below the count. An odd count's first half
    // is one tick longer and ends at 0.
    const auto phase = static_cast<std::uint32_t>(ticks % count);
    const std::uint32_t high = (count + 1) / 2;
    const std::uint32_t in_half = phase < high ? phase : phase - high;
    return static_cast<std::uint16_t>((count & ~1u) - 2 * in_half);
  }
  // Past zero the counter wraps around and goes on.
  const std::uint32_t modulus = bcd ? 10000 : 65536;
  return static_cast<std::uint16_t>((count + modulus - ticks % modulus) % modulus);
}

bool PitCount::out(std::uint64_t ticks) const {
  switch (mode) {
    case 0:
    case 1:
      return ticks >= count;
    case 2:
      return ticks % count != count - 1;
    case 3:
      return ticks % count < (count + 1) / 2;
    default:
      return ticks != count;
  }
}

std::optional<std::uint64_t> PitCount::next_rise(std::uint64_t ticks) const {
  if (periodic()) return (ticks / count + 1) * count;
  const std::uint64_t rise = mode >= 4 ? std::uint64_t{count} + 1 : count;
  if (ticks < rise) return rise;
  return std::nullopt;
}

}  // namespace doppel::devices
