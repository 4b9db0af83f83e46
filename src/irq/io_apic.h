#pragma once

#include <array>
#include <cstdint>
#include <mutex>

#include "irq/line.h"
#include "irq/message.h"
#include "state/visitor.h"

namespace doppel::irq {

/// An I/O APIC with 24 inputs (82093AA; version 20h, which adds the EOI register of the ICH).
///
/// Any thread may call anything. Lock order: a device's lock, the Pic's, then this one; messages go to the bus with it
/// held, and local APICs take no lock.
class IoApic : public IrqSink, public EoiSink {
 public:
  static constexpr unsigned kPins = 24;
  static constexpr std::uint64_t kPageSize = 0x1000;

  explicit IoApic(MessageSink& bus);

  void reset();
  void describe(state::Visitor& v);

  void set_input(unsigned pin, bool high) override;
  void end_of_interrupt(std::uint8_t vector) override;

  /// IOREGSEL at 0, IOWIN at 10h, EOIR at 40h.
  std::uint32_t read(std::uint64_t offset);
  void write(std::uint64_t offset, std::uint32_t value);

 private:
  // With mutex_ held:
  std::uint32_t read_register() const;
  void write_register(std::uint32_t value);
  void write_redirection(unsigned pin, unsigned half, std::uint32_t value);
  /// Sends what a level-sensitive pin asks for, unless masked or waiting for an EOI.
  void service_level(unsigned pin);
  void send(unsigned pin);
  void acknowledge_vector(std::uint8_t vector);

  MessageSink& bus_;
  std::mutex mutex_;
  std::uint8_t ioregsel_ = 0;
  std::uint32_t id_ = 0;
  std::uint32_t lines_ = 0;  ///< levels of the pins
  std::array<std::uint64_t, kPins> redirection_{};
};

}  // namespace doppel::irq
