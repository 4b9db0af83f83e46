#pragma once

#include <atomic>
#include <cstdint>

namespace doppel::state {
class Visitor;
}

namespace doppel::time {

/// Nanoseconds of the VM's own time. Starts at 0, never goes back, stands still while the VM is paused.
using Nanoseconds = std::int64_t;

inline constexpr Nanoseconds kNever = INT64_MAX;
inline constexpr Nanoseconds kSecond = 1'000'000'000;

/// The one clock of a VM; TSC, LAPIC timers, PIT, HPET, PM timer, RTC and kvmclock are all functions of it.
///
/// now() may be called by any thread; it follows the host's CLOCK_MONOTONIC, which the host disciplines, so a guest's
/// time does not drift from its host's. pause(), resume() and describe() belong to the thread that owns the machine.
class VmClock {
 public:
  VmClock();

  Nanoseconds now() const;
  void pause();   ///< nothing when it is paused already, as it is at first
  void resume();  ///< nothing when it runs
  bool paused() const { return paused_.load(std::memory_order_relaxed); }

  /// The host's CLOCK_MONOTONIC time at which this clock will read `t`, for sleeping; only while running.
  Nanoseconds host_time(Nanoseconds t) const;

  void describe(state::Visitor& visitor);

 private:
  template <class Change>
  void change(const Change& change);

  std::atomic<std::uint32_t> version_ = 0;  ///< odd while the other two change: a sequence lock for now()
  std::atomic<bool> paused_ = true;
  std::atomic<Nanoseconds> base_ = 0;  ///< paused: the VM time; running: host monotonic time − VM time
};

/// Frequency of the guest's TSC: one tick a nanosecond of VmClock, on every host, so that a VM may move between hosts.
inline constexpr std::uint64_t kTscHz = 1'000'000'000;

/// A fixed-frequency counter derived from the clock: ticks of `hz` (1 to 18 GHz) in `t` (not negative) nanoseconds,
/// without overflow for centuries.
std::uint64_t ticks_at(Nanoseconds t, std::uint64_t hz);
/// The first instant at which a counter of `hz` has reached `ticks`; kNever when that is centuries away.
Nanoseconds time_of_tick(std::uint64_t ticks, std::uint64_t hz);

}  // namespace doppel::time
