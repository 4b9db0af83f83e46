#pragma once

#include <cstdint>
#include <mutex>

#include "irq/i8259.h"
#include "irq/line.h"
#include "state/visitor.h"

namespace doppel::irq {

/// A PC's pair of 8259As: the slave on IRQ 2 of the master, with the ELCR of the chip sets (ports 20h, 21h, A0h, A1h,
/// 4D0h, 4D1h). Input n is ISA IRQ n.
///
/// Any thread may call anything. Lock order: a device's lock, the Pic's, then what INTR is connected to (the IOAPIC's);
/// local APICs have no lock.
class Pic : public IrqSink {
 public:
  Pic();

  void reset();
  void describe(state::Visitor& v);

  /// INTR to the processors: LINT0 of the local APICs and, on most boards, pin 0 of the IOAPIC. Called with the Pic's
  /// lock held.
  void connect_intr(IrqLine intr) { intr_ = intr; }

  /// Input 2 is the cascade and ignored.
  void set_input(unsigned irq, bool high) override;

  /// INTA: the vector of the interrupt taken. IRQ 7 or 15 when the request has gone, which is then not in service.
  std::uint8_t acknowledge();

  enum Chip : unsigned { kMaster = 0, kSlave = 1 };
  std::uint8_t read(Chip chip, unsigned a0);
  void write(Chip chip, unsigned a0, std::uint8_t value);
  std::uint8_t elcr(Chip chip);
  void set_elcr(Chip chip, std::uint8_t value);

 private:
  static constexpr unsigned kCascade = 2;

  /// Passes the slave's output to the master and the master's to INTR.
  void update();

  std::mutex mutex_;
  I8259 master_;
  I8259 slave_;
  IrqLine intr_;
};

}  // namespace doppel::irq
