#include "irq/apic_timer.h"

#include <utility>

namespace doppel::irq {

using time::kNever;
using time::Nanoseconds;

std::uint32_t apic_timer_current_count(ApicTimerMode mode, std::uint32_t initial_count, unsigned divisor,
                                       Nanoseconds elapsed) {
  if (initial_count == 0 || (mode != ApicTimerMode::OneShot && mode != ApicTimerMode::Periodic)) return 0;
  const std::uint64_t ticks = elapsed < 0 ? 0 : static_cast<std::uint64_t>(elapsed) / divisor;
  if (mode == ApicTimerMode::Periodic) return initial_count - static_cast<std::uint32_t>(ticks % initial_count);
  return ticks >= initial_count ? 0 : initial_count - static_cast<std::uint32_t>(ticks);
}

ApicTimer::ApicTimer(const time::VmClock& clock, time::TimerQueue& queue, std::function<void()> expired)
    : clock_(clock), expired_(std::move(expired)), timer_(queue, [this](Nanoseconds now) { on_timer(now); }) {}

void ApicTimer::reset() {
  const std::lock_guard guard(mutex_);
  mode_ = ApicTimerMode::OneShot;
  masked_ = true;
  running_ = false;
  initial_count_ = 0;
  divide_configuration_ = 0;
  tsc_deadline_ = 0;
  start_ = 0;
  deadline_ = kNever;
  timer_.disarm();
}

void ApicTimer::describe(state::Visitor& v) {
  v.field(1, "mode", mode_);
  v.field(2, "masked", masked_);
  v.field(3, "running", running_);
  v.field(4, "initial_count", initial_count_);
  v.field(5, "divide_configuration", divide_configuration_);
  v.field(6, "tsc_deadline", tsc_deadline_);
  v.field(7, "tsc_offset", tsc_offset_);
  v.field(8, "start", start_);
  v.field(9, "deadline", deadline_);
  constexpr Nanoseconds kFarthest = Nanoseconds{1} << 62;
  v.require(mode_ <= ApicTimerMode::Reserved, "the APIC timer is in an unknown mode");
  v.require(!running_ || initial_count_ != 0, "the APIC timer runs without an initial count");
  // A new divisor may put the start before time 0, by no more than a full count.
  v.require(start_ > -(Nanoseconds{1} << 40) && start_ < kFarthest, "the APIC timer started at an impossible time");
  v.on_loaded([this] {
    const std::lock_guard guard(mutex_);
    timer_.arm(deadline_);
  });
}

void ApicTimer::configure(ApicTimerMode mode, bool masked) {
  const std::lock_guard guard(mutex_);
  if ((mode == ApicTimerMode::TscDeadline) != (mode_ == ApicTimerMode::TscDeadline)) {
    running_ = false;
    initial_count_ = 0;
    tsc_deadline_ = 0;
  }
  mode_ = mode;
  masked_ = masked;
  rearm(clock_.now());
}

std::uint32_t ApicTimer::initial_count() const {
  const std::lock_guard guard(mutex_);
  return initial_count_;
}

void ApicTimer::set_initial_count(std::uint32_t count) {
  const std::lock_guard guard(mutex_);
  if (mode_ == ApicTimerMode::TscDeadline) return;
  initial_count_ = count;
  running_ = count != 0;
  start_ = clock_.now();
  rearm(start_);
}

std::uint32_t ApicTimer::current_count() const {
  const std::lock_guard guard(mutex_);
  return count_at(clock_.now());
}

std::uint32_t ApicTimer::count_at(Nanoseconds now) const {
  if (!running_) return 0;
  return apic_timer_current_count(mode_, initial_count_, apic_timer_divisor(divide_configuration_), now - start_);
}

std::uint32_t ApicTimer::divide_configuration() const {
  const std::lock_guard guard(mutex_);
  return divide_configuration_;
}

void ApicTimer::set_divide_configuration(std::uint32_t value) {
  const std::lock_guard guard(mutex_);
  const Nanoseconds now = clock_.now();
  const std::uint32_t count = count_at(now);
  divide_configuration_ = value & 0xB;
  if (running_) {
    const auto counted = static_cast<Nanoseconds>(initial_count_ - count);
    start_ = now - counted * static_cast<Nanoseconds>(apic_timer_divisor(divide_configuration_));
    rearm(now);
  }
}

std::uint64_t ApicTimer::tsc_deadline() const {
  const std::lock_guard guard(mutex_);
  return tsc_deadline_;
}

void ApicTimer::set_tsc_deadline(std::uint64_t deadline) {
  const std::lock_guard guard(mutex_);
  if (mode_ != ApicTimerMode::TscDeadline) return;
  tsc_deadline_ = deadline;
  rearm(clock_.now());
}

void ApicTimer::set_tsc_offset(std::int64_t offset) {
  const std::lock_guard guard(mutex_);
  if (tsc_offset_ == offset) return;
  tsc_offset_ = offset;
  if (mode_ == ApicTimerMode::TscDeadline) rearm(clock_.now());
}

Nanoseconds ApicTimer::tsc_deadline_instant(Nanoseconds now) const {
  if (tsc_deadline_ == 0) return kNever;
  const std::uint64_t tsc = static_cast<std::uint64_t>(now) + static_cast<std::uint64_t>(tsc_offset_);
  if (tsc >= tsc_deadline_) return now;
  const std::uint64_t ahead = tsc_deadline_ - tsc;
  return ahead > static_cast<std::uint64_t>(kNever - now) ? kNever : now + static_cast<Nanoseconds>(ahead);
}

Nanoseconds ApicTimer::next_expiry(Nanoseconds now) const {
  if (mode_ == ApicTimerMode::TscDeadline) return tsc_deadline_instant(now);
  if (!running_ || mode_ == ApicTimerMode::Reserved) return kNever;
  const auto period =
      static_cast<Nanoseconds>(initial_count_) * static_cast<Nanoseconds>(apic_timer_divisor(divide_configuration_));
  if (mode_ == ApicTimerMode::OneShot || now < start_) return start_ + period;
  return start_ + ((now - start_) / period + 1) * period;
}

void ApicTimer::rearm(Nanoseconds now) {
  deadline_ = masked_ ? kNever : next_expiry(now);
  // An expiry that passed while the LVT was masked is gone; a TSC deadline in the past fires at once.
  if (mode_ == ApicTimerMode::OneShot && deadline_ < now) deadline_ = kNever;
  timer_.arm(deadline_);
}

void ApicTimer::on_timer(Nanoseconds now) {
  {
    const std::lock_guard guard(mutex_);
    if (deadline_ > now) return;  // armed anew since the queue found it due
    if (mode_ == ApicTimerMode::TscDeadline) tsc_deadline_ = 0;
    if (mode_ == ApicTimerMode::OneShot) running_ = false;
    rearm(now);
  }
  expired_();
}

}  // namespace doppel::irq
