#pragma once

#include <cstdint>
#include <initializer_list>

#include "base/ring.h"
#include "state/visitor.h"

namespace doppel::devices {

/// A PS/2 keyboard of 101/102 keys behind an i8042: answers commands, speaks scan code set 2 (IBM PS/2 technical
/// reference, "101/102-key keyboard"). Owned and locked by the I8042.
class Ps2Keyboard {
 public:
  void reset();
  void describe(state::Visitor& v);

  /// A byte from the host controller: a command or its argument.
  void write(std::uint8_t value);
  bool has_output() const { return !output_.empty(); }
  std::uint8_t take_output() { return output_.pop(); }

  /// Key codes of set 2, all of them or none when the buffer is full or scanning is disabled.
  bool send(std::initializer_list<std::uint8_t> codes);

 private:
  void answer(std::initializer_list<std::uint8_t> bytes);
  void set_defaults();
  void write_argument(std::uint8_t command, std::uint8_t value);

  static constexpr std::size_t kBuffer = 32;

  Ring<std::uint8_t, kBuffer> output_;
  std::uint8_t awaiting_argument_of_ = 0;  ///< command, 0 for none
  std::uint8_t leds_ = 0;
  std::uint8_t typematic_ = 0x2B;  ///< 10.9 characters a second after 500 ms
  bool scanning_ = true;
};

}  // namespace doppel::devices
