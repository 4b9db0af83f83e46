#pragma once

#include <cstdint>

#include "state/visitor.h"

namespace doppel::irq {

/// One 8259A programmable interrupt controller (Intel data sheet 231468), without its wires: the Pic below makes a PC's
/// pair of two. Not thread-safe; the owner locks.
///
/// Of the data sheet, the MCS-80 modes and buffered mode are absent, and LTIM is ignored as in every PC chip set:
/// level sensing is the ELCR's.
class I8259 {
 public:
  /// `elcr_mask`: inputs that may be made level-sensitive.
  explicit I8259(std::uint8_t elcr_mask) : elcr_mask_(elcr_mask) {}

  void reset();
  void describe(state::Visitor& v);

  void set_input(unsigned pin, bool high);
  /// The INT output.
  bool output() const { return requesting_pin() >= 0; }
  /// The INTA cycle: the pin taken and put in service, or -1 for none (a spurious interrupt: answer with pin 7).
  int acknowledge();
  std::uint8_t vector(unsigned pin) const { return static_cast<std::uint8_t>(vector_base_ | pin); }

  /// A0 = 0: ICW1, OCW2, OCW3; IRR, ISR or a poll. A0 = 1: ICW2 to ICW4, OCW1; IMR.
  void write(unsigned a0, std::uint8_t value);
  std::uint8_t read(unsigned a0);

  std::uint8_t elcr() const { return elcr_; }
  void set_elcr(std::uint8_t value);

  /// Master only: the input that carries a slave, whose requests pass while an earlier one is in service when ICW4 asks
  /// for the special fully nested mode.
  void set_cascade_input(unsigned pin) { cascade_ = static_cast<std::uint8_t>(1u << pin); }

 private:
  /// What the next write with A0 = 1 is.
  enum class Expect : std::uint8_t { Ocw1, Icw2, Icw3, Icw4 };

  /// Pin of the highest priority in `pins`, or -1; counting starts after lowest_priority_.
  int highest_priority(std::uint8_t pins) const;
  /// 0 is the highest.
  unsigned priority_of(unsigned pin) const { return (pin - lowest_priority_ - 1) & 7; }
  int requesting_pin() const;
  /// The cascade follows the slave's output, so that a request which the slave withdraws is not taken for one.
  std::uint8_t level_sensitive() const { return elcr_ | cascade_; }
  void begin_initialization(std::uint8_t icw1);
  void write_ocw2(std::uint8_t value);
  void write_ocw3(std::uint8_t value);
  std::uint8_t poll();

  std::uint8_t elcr_mask_;
  std::uint8_t cascade_ = 0;
  std::uint8_t lines_ = 0;  ///< levels of the inputs
  std::uint8_t irr_ = 0;
  std::uint8_t imr_ = 0;
  std::uint8_t isr_ = 0;
  std::uint8_t elcr_ = 0;
  std::uint8_t vector_base_ = 0;      ///< ICW2, T7–T3
  std::uint8_t lowest_priority_ = 7;  ///< pin
  Expect expect_ = Expect::Ocw1;
  bool needs_icw3_ = false;
  bool needs_icw4_ = false;
  bool auto_eoi_ = false;
  bool rotate_on_auto_eoi_ = false;
  bool special_fully_nested_ = false;
  bool special_mask_ = false;
  bool read_isr_ = false;
  bool poll_ = false;
};

}  // namespace doppel::irq
