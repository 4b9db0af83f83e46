#pragma once

#include <mutex>
#include <string_view>

#include "state/visitor.h"

namespace doppel::bus {

/// Cold: power was off, everything takes its power-on value. Warm: the reset line; battery-backed and sticky registers
/// stay.
enum class ResetKind { Cold, Warm };

/// What the machine owns, resets, saves and inspects. A fresh device equals one after a cold reset.
///
/// The machine calls reset() and describe() while all vCPUs are stopped. Register accesses (IoHandler) come from any
/// vCPU under lock(); whatever else enters a device from outside (host input, timer callbacks) takes lock() itself.
/// Lock order: a device's lock, then the interrupt controllers'; never two devices' locks.
class Device {
 public:
  virtual ~Device() = default;
  /// Lower-case, stable: the key of its state in snapshots and of `doppel inspect`.
  virtual std::string_view name() const = 0;
  virtual void reset(ResetKind kind) = 0;
  virtual void describe(state::Visitor& visitor) = 0;

  std::mutex& lock() { return lock_; }

 private:
  std::mutex lock_;
};

}  // namespace doppel::bus
