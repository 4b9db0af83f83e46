#pragma once

#include <array>
#include <atomic>

#include "irq/line.h"

namespace doppel::machine {

/// The multiplexer in front of one ISA interrupt that the HPET can take over from an older timer (IA-PC HPET
/// specification, 2.4.6): input 0 is the older timer's, input 1 the HPET's. Any thread.
class LegacyTimerRoute : public irq::IrqSink {
 public:
  enum Input : unsigned { kOldTimer = 0, kHpet = 1 };

  explicit LegacyTimerRoute(irq::IrqLine output) : output_(output) {}

  void set_input(unsigned input, bool high) override {
    level_[input].store(high, std::memory_order_relaxed);
    if (input == selected_.load(std::memory_order_relaxed)) output_.set(high);
  }
  void select(Input input) {
    selected_.store(input, std::memory_order_relaxed);
    output_.set(level_[input].load(std::memory_order_relaxed));
  }

 private:
  const irq::IrqLine output_;
  std::array<std::atomic<bool>, 2> level_{};
  std::atomic<unsigned> selected_ = kOldTimer;
};

}  // namespace doppel::machine
