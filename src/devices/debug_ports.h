#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "bus/io_bus.h"
#include "devices/byte_registers.h"

/// Ports through which a guest talks to whoever debugs it. They keep no state, so they are handlers, not devices.
namespace doppel::devices {

/// Port E9h of Bochs, and 402h of firmware builds: every byte written goes to the sink; reads give E9h, by which guests
/// know that somebody listens.
class DebugConsole : public ByteRegisters {
 public:
  /// Called by vCPU threads, under whichever lock the port was mapped with.
  explicit DebugConsole(std::function<void(std::uint8_t)> sink) : sink_(std::move(sink)) {}

 protected:
  std::uint8_t read_byte(std::uint64_t) override { return 0xE9; }
  void write_byte(std::uint64_t, std::uint8_t value) override { sink_(value); }

 private:
  std::function<void(std::uint8_t)> sink_;
};

/// isa-debug-exit, as in QEMU: a write ends the machine with the status (value << 1) | 1.
class DebugExit : public bus::IoHandler {
 public:
  explicit DebugExit(std::function<void(std::uint32_t status)> on_exit) : on_exit_(std::move(on_exit)) {}

  std::uint64_t read(std::uint64_t, unsigned) override { return 0; }
  void write(std::uint64_t, unsigned, std::uint64_t value) override {
    on_exit_(static_cast<std::uint32_t>(value) << 1 | 1);
  }

 private:
  std::function<void(std::uint32_t)> on_exit_;
};

}  // namespace doppel::devices
