#pragma once

namespace doppel::irq {

/// Something with numbered interrupt inputs.
class IrqSink {
 public:
  virtual ~IrqSink() = default;
  /// The level of input `pin` is now `high`. Repeating a level is allowed and means nothing. Any thread.
  virtual void set_input(unsigned pin, bool high) = 0;
};

/// One interrupt output of a device: a wire to an input that the machine chose. Copyable; unconnected lines do nothing.
class IrqLine {
 public:
  IrqLine() = default;
  IrqLine(IrqSink& sink, unsigned pin) : sink_(&sink), pin_(pin) {}

  void set(bool high) const {
    if (sink_ != nullptr) sink_->set_input(pin_, high);
  }
  void raise() const { set(true); }
  void lower() const { set(false); }
  /// An edge: up and down again.
  void pulse() const {
    raise();
    lower();
  }

 private:
  IrqSink* sink_ = nullptr;
  unsigned pin_ = 0;
};

}  // namespace doppel::irq
