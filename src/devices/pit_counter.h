#pragma once

#include <cstdint>
#include <optional>

namespace doppel::devices {

/// The arithmetic of one counter of an 8254, as functions of time (Intel data sheet 231164, "Mode Definitions").
/// `count` is the initial count, 1 to 65536 (10000 in BCD); `ticks` counts CLK pulses since it was loaded into the
/// counting element, which in modes 1 and 5 the gate's trigger does.
struct PitCount {
  unsigned mode;        ///< 0 to 5
  std::uint32_t count;  ///< initial count
  bool bcd = false;

  /// The counting element: 16 bits binary, whatever the mode counts in.
  std::uint16_t value(std::uint64_t ticks) const;
  bool out(std::uint64_t ticks) const;
  /// First tick after `ticks` at which OUT rises; none when it will not again.
  std::optional<std::uint64_t> next_rise(std::uint64_t ticks) const;
  bool periodic() const { return mode == 2 || mode == 3; }
};

/// A 16-bit register in BCD: 0 to 9999. Digits above 9 count as what they weigh.
std::uint16_t to_bcd(unsigned value);
unsigned from_bcd(std::uint16_t value);

}  // namespace doppel::devices
