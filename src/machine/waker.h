#pragma once

#include <atomic>
#include <cstdint>

#include "time/vm_clock.h"
#include "x86/attention.h"

namespace doppel::machine {

/// Sleep and wake-up of one idle vCPU thread, without losing a wake-up and without a system call for one that is awake.
class Waker {
 public:
  /// Sleeps until wake(), until the host's CLOCK_MONOTONIC reads `host_deadline` (time::kNever: no deadline), or not at
  /// all when `attention` is set already. May return early.
  void sleep(const x86::Attention& attention, time::Nanoseconds host_deadline);
  /// After setting attention, from any thread.
  void wake();

 private:
  std::atomic<std::uint32_t> sleeping_ = 0;
};

}  // namespace doppel::machine
