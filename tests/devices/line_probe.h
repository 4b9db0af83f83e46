#pragma once

#include <array>

#include "irq/line.h"

namespace doppel::test {

/// What an interrupt controller sees of its inputs.
class LineProbe : public irq::IrqSink {
 public:
  void set_input(unsigned pin, bool high) override {
    if (high && !level_.at(pin)) ++edges_[pin];
    level_.at(pin) = high;
  }
  irq::IrqLine line(unsigned pin) { return {*this, pin}; }
  bool level(unsigned pin) const { return level_.at(pin); }
  /// Rising edges since the last call.
  unsigned take_edges(unsigned pin) {
    const unsigned edges = edges_.at(pin);
    edges_.at(pin) = 0;
    return edges;
  }

 private:
  std::array<bool, 32> level_{};
  std::array<unsigned, 32> edges_{};
};

}  // namespace doppel::test
