#pragma once

#include <array>
#include <mutex>

#include "irq/line.h"

namespace doppel::irq {

/// Two sources, one wire: which of the inputs 0 and 1 drives the output is chosen at run time (the HPET's legacy
/// replacement route takes IRQ 0 from the PIT and IRQ 8 from the RTC). Its state follows from its sources'.
///
/// Any thread. Lock order: a device's lock, then this one, then the interrupt controllers'.
class Selector : public IrqSink {
 public:
  explicit Selector(IrqLine output) : output_(output) {}

  void set_input(unsigned pin, bool high) override {
    if (pin > 1) return;
    const std::lock_guard guard(mutex_);
    inputs_[pin] = high;
    if (pin == selected_) output_.set(high);
  }

  void select(unsigned pin) {
    const std::lock_guard guard(mutex_);
    selected_ = pin & 1;
    output_.set(inputs_[selected_]);
  }

 private:
  std::mutex mutex_;
  const IrqLine output_;
  std::array<bool, 2> inputs_{};
  unsigned selected_ = 0;
};

}  // namespace doppel::irq
