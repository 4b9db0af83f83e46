#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/ring.h"
#include "bus/device.h"
#include "devices/byte_registers.h"
#include "devices/ps2_keyboard.h"
#include "irq/line.h"

namespace doppel::devices {

/// The keyboard controller of a PC AT at ports 60h and 64h, with a keyboard and nothing on the auxiliary port (IBM PS/2
/// technical reference, "Keyboard/Auxiliary Device Controller").
class I8042 : public bus::Device {
 public:
  I8042();

  void connect_irq(irq::IrqLine irq1) { irq1_ = irq1; }
  /// Both are called with the device's lock held, in the vCPU's thread.
  void set_on_a20(std::function<void(bool)> on_a20) { on_a20_ = std::move(on_a20); }
  void set_on_reset(std::function<void()> on_reset) { on_reset_ = std::move(on_reset); }

  std::string_view name() const override { return "i8042"; }
  void reset(bus::ResetKind kind) override;
  void describe(state::Visitor& v) override;

  bus::IoHandler& data_port() { return data_; }        ///< 60h
  bus::IoHandler& command_port() { return command_; }  ///< 64h

  /// Presses and releases Ctrl, Alt and Delete; false when the keyboard cannot take it now. Takes lock(). Any thread.
  bool send_ctrl_alt_del();

 private:
  std::uint8_t read_data(std::uint64_t offset);
  void write_data(std::uint64_t offset, std::uint8_t value);
  std::uint8_t read_status(std::uint64_t offset);
  void write_command(std::uint64_t offset, std::uint8_t value);

  void write_command_argument(std::uint8_t command, std::uint8_t value);
  void write_output_port(std::uint8_t value);
  void reply(std::uint8_t value);
  /// A byte of scan code set 2 as set 1; none for the break prefix, which changes the next.
  bool translate(std::uint8_t& value);
  /// Fills the output buffer when it is free and drives IRQ 1.
  void update();

  irq::IrqLine irq1_;
  std::function<void(bool)> on_a20_;
  std::function<void()> on_reset_;

  Ps2Keyboard keyboard_;
  Ring<std::uint8_t, 16> replies_;  ///< of the controller itself; they go before the keyboard's
  std::uint8_t command_byte_ = 0;
  std::uint8_t output_port_ = 0;
  std::uint8_t output_buffer_ = 0;
  bool output_full_ = false;
  bool last_was_command_ = false;
  bool break_prefix_ = false;
  std::uint8_t awaiting_argument_of_ = 0;  ///< command, 0 for none

  MemberRegisters<I8042> data_{*this, &I8042::read_data, &I8042::write_data};
  MemberRegisters<I8042> command_{*this, &I8042::read_status, &I8042::write_command};
};

}  // namespace doppel::devices
