#pragma once

#include <cstdint>
#include <optional>

#include "devices/pit_counter.h"
#include "state/visitor.h"

namespace doppel::devices {

/// One counter of an 8254 with its control word, latches and gate. Times are CLK pulses since VM time 0, never going
/// back; not thread-safe. A count written in mode 2 or 3 is loaded at the end of the period (in mode 3 the data sheet
/// has it at the end of the half period).
class PitChannel {
 public:
  explicit PitChannel(bool gate) : gate_(gate) {}

  void reset(bool gate) { *this = PitChannel(gate); }
  void describe(state::Visitor& v);

  /// Bits 5–0 of a control word that is not a command.
  void write_control(std::uint8_t control);
  void write_count(std::uint8_t value, std::uint64_t tick);
  std::uint8_t read(std::uint64_t tick);
  void latch_count(std::uint64_t tick);
  void latch_status(std::uint64_t tick);

  void set_gate(bool high, std::uint64_t tick);
  bool gate() const { return gate_; }
  bool out(std::uint64_t tick);
  std::optional<std::uint64_t> next_rise(std::uint64_t tick);

 private:
  /// Bits 5 and 4 of the control word.
  enum class Access : std::uint8_t { Latch = 0, Low = 1, High = 2, LowThenHigh = 3 };

  PitCount arithmetic() const { return {mode_, count_, bcd_}; }
  bool triggered_by_gate() const { return mode_ == 1 || mode_ == 5; }
  bool periodic() const { return mode_ == 2 || mode_ == 3; }
  /// Takes a pending count over if its time has come.
  void synchronize(std::uint64_t tick);
  std::uint64_t elapsed(std::uint64_t tick) const;
  void load(std::uint32_t count, std::uint64_t tick);
  std::uint16_t current_value(std::uint64_t tick);
  bool null_count(std::uint64_t tick) const;

  std::uint8_t mode_ = 0;
  Access access_ = Access::LowThenHigh;
  bool bcd_ = false;
  bool gate_;

  std::uint32_t count_ = 0;          ///< initial count, 0 before the first
  std::uint32_t pending_count_ = 0;  ///< written, but not loaded yet; 0 for none
  std::uint64_t pending_tick_ = 0;   ///< when it will be, in modes 2 and 3
  bool counting_ = false;            ///< else the element stands still, frozen_ ticks after its load
  std::uint64_t start_tick_ = 0;     ///< when the element stood at count_
  std::uint64_t frozen_ = 0;

  std::uint8_t low_byte_ = 0;
  bool write_high_next_ = false;
  bool read_high_next_ = false;
  bool count_latched_ = false;
  bool status_latched_ = false;
  std::uint16_t latched_count_ = 0;
  std::uint8_t latched_status_ = 0;
};

}  // namespace doppel::devices
