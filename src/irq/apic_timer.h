#pragma once

#include <cstdint>
#include <functional>
#include <mutex>

#include "state/visitor.h"
#include "time/timer_queue.h"
#include "time/vm_clock.h"

namespace doppel::irq {

/// LVT timer mode, bits 18:17 (SDM vol. 3, 11.5.4). The reserved encoding 3 does nothing.
enum class ApicTimerMode : std::uint8_t { OneShot = 0, Periodic = 1, TscDeadline = 2, Reserved = 3 };

/// Divisor that a divide configuration register selects with bits 3, 1 and 0 (SDM vol. 3, figure 11-10).
constexpr unsigned apic_timer_divisor(std::uint32_t divide_configuration) {
  const unsigned code = (divide_configuration & 3) | ((divide_configuration >> 1) & 4);
  return code == 7 ? 1 : 2u << code;
}

/// Current-count register `elapsed` ns after the initial count was written, at one input clock a nanosecond.
std::uint32_t apic_timer_current_count(ApicTimerMode mode, std::uint32_t initial_count, unsigned divisor,
                                       time::Nanoseconds elapsed);

/// The timer of a local APIC, fed by a clock of 1 GHz, and the IA32_TSC_DEADLINE register.
///
/// The vCPU's thread programs it; `expired` is called, without any lock held, in whichever thread runs the queue. It is
/// called once however many periods have passed since.
class ApicTimer {
 public:
  ApicTimer(const time::VmClock& clock, time::TimerQueue& queue, std::function<void()> expired);

  void reset();
  void describe(state::Visitor& v);

  /// From the LVT. A switch to or from TSC-deadline mode disarms; while masked nothing wakes a thread.
  void configure(ApicTimerMode mode, bool masked);

  std::uint32_t initial_count() const;
  void set_initial_count(std::uint32_t count);
  std::uint32_t current_count() const;

  std::uint32_t divide_configuration() const;
  /// Counting goes on from the current count at the new rate.
  void set_divide_configuration(std::uint32_t value);

  /// IA32_TSC_DEADLINE: 0 when disarmed or not in that mode.
  std::uint64_t tsc_deadline() const;
  void set_tsc_deadline(std::uint64_t deadline);

  /// Guest TSC − VmClock nanoseconds, whenever the guest moves its TSC (IA32_TIME_STAMP_COUNTER, IA32_TSC_ADJUST).
  void set_tsc_offset(std::int64_t offset);

 private:
  void on_timer(time::Nanoseconds now);
  /// Computes the deadline anew and arms the timer. With mutex_ held.
  void rearm(time::Nanoseconds now);
  time::Nanoseconds next_expiry(time::Nanoseconds now) const;
  time::Nanoseconds tsc_deadline_instant(time::Nanoseconds now) const;
  std::uint32_t count_at(time::Nanoseconds now) const;

  const time::VmClock& clock_;
  std::function<void()> expired_;
  mutable std::mutex mutex_;  ///< guards all below; taken before the TimerQueue's

  ApicTimerMode mode_ = ApicTimerMode::OneShot;
  bool masked_ = true;
  bool running_ = false;  ///< an initial count, and for one-shot no expiry yet
  std::uint32_t initial_count_ = 0;
  std::uint32_t divide_configuration_ = 0;
  std::uint64_t tsc_deadline_ = 0;
  std::int64_t tsc_offset_ = 0;
  time::Nanoseconds start_ = 0;                ///< when the count stood at initial_count_
  time::Nanoseconds deadline_ = time::kNever;  ///< next expiry to report

  time::Timer timer_;  ///< last: its destructor waits for a running callback
};

}  // namespace doppel::irq
