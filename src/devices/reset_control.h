#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "bus/device.h"
#include "devices/byte_registers.h"

namespace doppel::devices {

/// The reset control register of Intel's chip sets, port CF9h: a rising bit 2 (RST_CPU) resets, hard when bit 1
/// (SYS_RST) is set (82371AB, 4.2.2).
class ResetControl : public bus::Device, public ByteRegisters {
 public:
  /// Called with the device's lock held, in the vCPU's thread.
  void set_on_reset(std::function<void()> on_reset) { on_reset_ = std::move(on_reset); }

  std::string_view name() const override { return "reset_control"; }
  void reset(bus::ResetKind) override { value_ = 0; }
  void describe(state::Visitor& v) override { v.field(1, "value", value_); }

 protected:
  std::uint8_t read_byte(std::uint64_t) override { return value_; }
  void write_byte(std::uint64_t, std::uint8_t value) override {
    const bool reset_rises = (value & ~value_ & kResetCpu) != 0;
    value_ = value & kSystemReset;  // RST_CPU falls by itself
    if (reset_rises && on_reset_) on_reset_();
  }

 private:
  static constexpr std::uint8_t kSystemReset = 0x02, kResetCpu = 0x04;

  std::function<void()> on_reset_;
  std::uint8_t value_ = 0;
};

}  // namespace doppel::devices
