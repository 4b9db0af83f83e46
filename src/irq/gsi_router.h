#pragma once

#include "irq/line.h"

namespace doppel::irq {

/// The board's wiring. Input n below 16 is ISA IRQ n: it reaches input n of the PIC and pin n of the IOAPIC, IRQ 0 the
/// pin 2 (which the MADT tells the guest). Inputs from 16 on are pins of the IOAPIC only.
///
/// Stateless; any thread. The level goes to the PIC first, then to the IOAPIC, each under its own lock.
class GsiRouter : public IrqSink {
 public:
  GsiRouter(IrqSink& pic, IrqSink& io_apic) : pic_(pic), io_apic_(io_apic) {}

  void set_input(unsigned irq, bool high) override {
    if (irq < kIsaIrqs) pic_.set_input(irq, high);
    io_apic_.set_input(irq == 0 ? kTimerPin : irq, high);
  }

 private:
  static constexpr unsigned kIsaIrqs = 16;
  static constexpr unsigned kTimerPin = 2;

  IrqSink& pic_;
  IrqSink& io_apic_;
};

}  // namespace doppel::irq
