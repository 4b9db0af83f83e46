#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "time/host_tsc.h"
#include "time/tsc_line.h"

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
///
/// Where the host's TSC serves, VM time becomes a line over it as soon as its rate is known, so that translated code
/// can evaluate it too. Whoever asks for the time then now and again bends the line towards CLOCK_MONOTONIC, without
/// a step.
class VmClock {
 public:
  explicit VmClock(bool use_host_tsc = host_tsc_is_clock()) : use_host_tsc_(use_host_tsc) {}

  Nanoseconds now() const;
  void pause();   ///< nothing when it is paused already, as it is at first
  void resume();  ///< nothing when it runs
  bool paused() const { return paused_.load(std::memory_order_relaxed); }

  /// The host's CLOCK_MONOTONIC time at which this clock will read `t`, for sleeping; only while running.
  Nanoseconds host_time(Nanoseconds t) const;

  /// now() for as long as it holds: not while paused, and not where the host's TSC is no clock.
  const TscLine& line() const { return line_; }

  void describe(state::Visitor& visitor);

 private:
  /// Both clocks at one instant.
  struct Sample {
    std::uint64_t tsc = 0;
    Nanoseconds host = 0;
    bool good = false;  ///< read without being interrupted
  };
  static Sample sample();
  template <class Change>
  void change(const Change& change) const;
  Nanoseconds at_last() const;
  void follow_host(Nanoseconds host) const;
  void bend(const Sample& now) const;

  mutable std::mutex writer_;
  mutable std::atomic<std::uint32_t> version_ = 0;  ///< odd while the rest changes: a sequence lock for now()
  std::atomic<bool> paused_ = true;
  /// Paused: the VM time; running: host monotonic time − VM time, but for what the line has yet to make up for.
  mutable std::atomic<Nanoseconds> base_ = 0;

  mutable std::atomic<bool> use_host_tsc_;
  mutable std::atomic<bool> on_line_ = false;  ///< line_ is the clock
  mutable TscLine line_;
  mutable Sample last_;                              ///< that the line was made from, or is to be
  mutable std::uint64_t rate_ = 0;                   ///< of the TSC, once it has been measured
  mutable std::atomic<Nanoseconds> look_again_ = 0;  ///< VM time at which to bend the line, or host's to make it
};

/// Frequency of the guest's TSC: one tick a nanosecond of VmClock, on every host, so that a VM may move between hosts.
inline constexpr std::uint64_t kTscHz = 1'000'000'000;

/// A fixed-frequency counter derived from the clock: ticks of `hz` (1 to 18 GHz) in `t` (not negative) nanoseconds,
/// without overflow for centuries.
std::uint64_t ticks_at(Nanoseconds t, std::uint64_t hz);
/// The first instant at which a counter of `hz` has reached `ticks`; kNever when that is centuries away.
Nanoseconds time_of_tick(std::uint64_t ticks, std::uint64_t hz);

}  // namespace doppel::time
