#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "bus/device.h"
#include "devices/byte_registers.h"

namespace doppel::devices {

/// System control port A of a PS/2, 92h: bit 1 is the A20 gate, a rising bit 0 resets the processor.
class Port92 : public bus::Device, public ByteRegisters {
 public:
  /// Called with the device's lock held, in the vCPU's thread.
  void set_on_a20(std::function<void(bool)> on_a20) { on_a20_ = std::move(on_a20); }
  void set_on_reset(std::function<void()> on_reset) { on_reset_ = std::move(on_reset); }

  std::string_view name() const override { return "port92"; }
  void reset(bus::ResetKind) override { value_ = kA20; }
  void describe(state::Visitor& v) override {
    v.field(1, "value", value_);
    v.on_loaded([this] {
      if (on_a20_) on_a20_((value_ & kA20) != 0);
    });
  }

 protected:
  std::uint8_t read_byte(std::uint64_t) override { return value_; }
  void write_byte(std::uint64_t, std::uint8_t value) override {
    const bool reset_rises = (value & ~value_ & kFastReset) != 0;
    value_ = value & (kA20 | kFastReset);
    if (on_a20_) on_a20_((value_ & kA20) != 0);
    if (reset_rises && on_reset_) on_reset_();
  }

 private:
  static constexpr std::uint8_t kFastReset = 0x01, kA20 = 0x02;

  std::function<void(bool)> on_a20_;
  std::function<void()> on_reset_;
  std::uint8_t value_ = kA20;  ///< firmware leaves A20 open
};

}  // namespace doppel::devices
