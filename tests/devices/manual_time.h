#pragma once

#include "state/snapshot_io.h"
#include "time/timer_queue.h"
#include "time/vm_clock.h"

namespace doppel::test {

/// A VM clock that goes where the test says, and the timers that hang on it.
class ManualTime {
 public:
  /// Forward or back, without running timers.
  void jump_to(time::Nanoseconds now) {
    const auto bytes = state::save([&now](state::Visitor& v) { v.field(1, "now", now); });
    (void)state::load(bytes, [this](state::Visitor& v) { clock.describe(v); }).ok();
  }
  /// Runs every timer at its own deadline on the way.
  void advance_to(time::Nanoseconds target) {
    while (timers.next_deadline() <= target) {
      if (timers.next_deadline() > clock.now()) jump_to(timers.next_deadline());
      timers.run_expired(clock.now());
    }
    jump_to(target);
  }
  void advance(time::Nanoseconds by) { advance_to(clock.now() + by); }
  /// As a busy host does it: the time passes first, then the timers run, late.
  void stall_to(time::Nanoseconds target) {
    jump_to(target);
    timers.run_expired(target);
  }

  time::VmClock clock;
  time::TimerQueue timers;
};

}  // namespace doppel::test
