#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "devices/byte_registers.h"

namespace doppel::devices {

/// pvpanic (QEMU, docs/specs/pvpanic): one port by which a guest says that it has panicked. Reads tell which events are
/// understood. It keeps no state, so it is a handler, not a device.
class PvPanic : public ByteRegisters {
 public:
  static constexpr std::uint8_t kPanicked = 1 << 0;
  /// The guest has panicked and runs a kernel that it keeps for writing a crash dump.
  static constexpr std::uint8_t kCrashLoaded = 1 << 1;

  /// Called by vCPU threads, under whichever lock the port was mapped with, when the guest has panicked for good.
  explicit PvPanic(std::function<void()> on_panic) : on_panic_(std::move(on_panic)) {}

 protected:
  std::uint8_t read_byte(std::uint64_t) override { return kPanicked | kCrashLoaded; }
  void write_byte(std::uint64_t, std::uint8_t value) override {
    if ((value & kPanicked) != 0) on_panic_();
  }

 private:
  std::function<void()> on_panic_;
};

}  // namespace doppel::devices
