#pragma once

#include <ctime>

#include "base/result.h"
#include "time/vm_clock.h"
#include "x86/attention.h"

namespace doppel::machine {

/// Makes a vCPU thread leave its engine when a time has come: a POSIX timer whose signal goes to that thread and sets
/// Attention::kStop. No other thread is woken for it (DESIGN 4.11). Used by the thread that bound it only.
class DeadlineSignal {
 public:
  explicit DeadlineSignal(x86::Attention& attention) : attention_(attention) {}
  ~DeadlineSignal();
  DeadlineSignal(const DeadlineSignal&) = delete;
  DeadlineSignal& operator=(const DeadlineSignal&) = delete;

  /// Creates the timer for the calling thread.
  Result<void> bind_to_this_thread();
  /// At this time of the host's CLOCK_MONOTONIC; a time that is already armed or an earlier one stays, so a signal may
  /// come early.
  void arm(time::Nanoseconds host_time);

 private:
  x86::Attention& attention_;
  timer_t timer_{};
  bool bound_ = false;
  time::Nanoseconds armed_ = time::kNever;
};

}  // namespace doppel::machine
