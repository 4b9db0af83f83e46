#include "time/vm_clock.h"

#include <algorithm>
#include <cstdlib>
#include <ctime>

#include "state/visitor.h"

namespace doppel::time {
namespace {

Nanoseconds host_now() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return Nanoseconds{now.tv_sec} * kSecond + now.tv_nsec;
}

constexpr Nanoseconds kMeasured = 20'000'000;   // for the first rate
constexpr Nanoseconds kStraight = 100'000'000;  // between two bends

/// Nanoseconds a tick in units of 2^-64, from what passed on both clocks and by how much faster it is to be; 0 where
/// the TSC is slower than 1 GHz.
std::uint64_t rate_of(Nanoseconds host, std::uint64_t ticks, double faster) {
  const double rate = static_cast<double>(host) / static_cast<double>(ticks) * (1 + faster);
  constexpr double kUnit = 0x1p64, kMost = 0.999;
  return rate > 0 && rate < kMost ? static_cast<std::uint64_t>(rate * kUnit) : 0;
}

}  // namespace

VmClock::Sample VmClock::sample() {
  constexpr std::uint64_t kQuick = 1'000;  // ticks
  constexpr int kTries = 4;
  Sample best;
  std::uint64_t least = ~std::uint64_t{0};
  for (int i = 0; i < kTries && least > kQuick; ++i) {
    const std::uint64_t before = host_tsc();
    const Nanoseconds host = host_now();
    const std::uint64_t taken = host_tsc() - before;
    if (taken < least) best = {before + taken / 2, host, taken <= 8 * kQuick};
    least = std::min(least, taken);
  }
  return best;
}

Nanoseconds VmClock::now() const {
  for (;;) {
    if (const std::optional<std::uint64_t> at = line_.now()) {
      const auto now = static_cast<Nanoseconds>(*at);
      if (now >= look_again_.load(std::memory_order_relaxed)) follow_host(now);
      return now;
    }
    const std::uint32_t before = version_.load(std::memory_order_acquire);
    const bool paused = paused_.load(std::memory_order_acquire);
    const bool on_line = on_line_.load(std::memory_order_acquire);
    const Nanoseconds base = base_.load(std::memory_order_acquire);
    const Nanoseconds host = paused ? 0 : host_now();
    if ((before & 1) != 0 || version_.load(std::memory_order_relaxed) != before) continue;
    if (paused) return base;
    if (on_line) {
      // A change came in between; or the counter was set back.
      if (!line_.reaches(host_tsc())) follow_host(kNever);
      continue;
    }
    const bool due =
        use_host_tsc_.load(std::memory_order_relaxed) && host >= look_again_.load(std::memory_order_relaxed);
    if (due) follow_host(host);
    return host - base;
  }
}

/// With writer_ held.
template <class Change>
void VmClock::change(const Change& change) const {
  version_.fetch_add(1, std::memory_order_acq_rel);
  line_.take_back();
  change();
  version_.fetch_add(1, std::memory_order_release);
}

/// In a change: the time, which no reader can see any more, but a later one.
Nanoseconds VmClock::at_last() const {
  const std::uint64_t tsc = host_tsc();
  if (on_line_.load(std::memory_order_relaxed) && line_.reaches(tsc)) return static_cast<Nanoseconds>(line_.here(tsc));
  return host_now() - base_.load(std::memory_order_relaxed);
}

void VmClock::pause() {
  const std::lock_guard guard(writer_);
  if (paused()) return;
  change([this] {
    base_.store(at_last(), std::memory_order_release);
    paused_.store(true, std::memory_order_release);
  });
}

void VmClock::resume() {
  const std::lock_guard guard(writer_);
  if (!paused()) return;
  change([this] {
    const Nanoseconds value = base_.load(std::memory_order_relaxed);
    last_ = sample();
    base_.store(last_.host - value, std::memory_order_release);
    on_line_.store(rate_ != 0, std::memory_order_release);
    look_again_.store(rate_ != 0 ? value + kStraight : last_.host + kMeasured, std::memory_order_relaxed);
    paused_.store(false, std::memory_order_release);
    if (rate_ != 0) line_.put(host_tsc(), static_cast<std::uint64_t>(value), rate_);
  });
}

/// Makes the line, or bends it, unless another thread is about to.
void VmClock::follow_host(Nanoseconds now) const {
  const std::unique_lock guard(writer_, std::try_to_lock);
  if (!guard.owns_lock() || paused() || now < look_again_.load(std::memory_order_relaxed)) return;
  const Sample here = sample();
  if (!here.good) return;
  if (last_.good) return bend(here);
  last_ = here;
  look_again_.store(now + (on_line_.load(std::memory_order_relaxed) ? kStraight : kMeasured));
}

void VmClock::bend(const Sample& now) const {
  const bool on_line = on_line_.load(std::memory_order_relaxed);
  const std::uint64_t ticks = now.tsc - last_.tsc;
  const Nanoseconds passed = now.host - last_.host;
  const Nanoseconds value = now.host - base_.load(std::memory_order_relaxed);
  const Nanoseconds behind = on_line ? value - static_cast<Nanoseconds>(line_.here(now.tsc)) : 0;
  // Made up for within a second, or as fast as the host's own clock is slewed at most.
  constexpr double kMostFaster = 5e-4;
  const double faster =
      std::clamp(static_cast<double>(behind) / static_cast<double>(kSecond), -kMostFaster, kMostFaster);
  const std::uint64_t rate = rate_of(passed, ticks, faster);
  // Further off than by that: the counter was stopped or set, as when the host slept.
  constexpr Nanoseconds kTolerated = 1'000'000, kPartTolerated = 500;
  const bool lost = std::abs(behind) > kTolerated + passed / kPartTolerated;
  change([&, this] {
    const Nanoseconds last_value = at_last();
    const bool usable = rate != 0 && !lost;
    use_host_tsc_.store(usable, std::memory_order_relaxed);
    on_line_.store(usable, std::memory_order_release);
    rate_ = usable ? rate_of(passed, ticks, 0) : 0;
    look_again_.store(last_value + kStraight, std::memory_order_relaxed);
    if (usable) {
      line_.put(host_tsc(), static_cast<std::uint64_t>(last_value), rate);
    } else if (on_line) {
      base_.store(host_now() - last_value, std::memory_order_release);
    }
  });
  last_ = now;
}

Nanoseconds VmClock::host_time(Nanoseconds t) const {
  if (t == kNever) return kNever;
  if (on_line_.load(std::memory_order_relaxed)) {
    const Nanoseconds ahead = t - now(), host = host_now();
    return ahead > kNever - host ? kNever : host + ahead;
  }
  const Nanoseconds base = base_.load(std::memory_order_relaxed);
  return t > kNever - base ? kNever : t + base;
}

void VmClock::describe(state::Visitor& visitor) {
  Nanoseconds value = now();
  visitor.field(1, "now", value);
  if (!visitor.is_loading()) return;
  // Far from where sums of it and a guest's deadlines would overflow.
  constexpr Nanoseconds kLatest = kNever / 4;
  visitor.require(value >= 0, "the clock reads a time before its start");
  visitor.require(value <= kLatest, "the clock reads a time that no machine has lived to see");
  visitor.require(paused(), "the clock is running");
  if (!paused() || value < 0 || value > kLatest) return;
  const std::lock_guard guard(writer_);
  change([this, value] { base_.store(value, std::memory_order_release); });
}

std::uint64_t ticks_at(Nanoseconds t, std::uint64_t hz) {
  const auto nanoseconds = static_cast<std::uint64_t>(t);
  constexpr auto kPerSecond = static_cast<std::uint64_t>(kSecond);
  return nanoseconds / kPerSecond * hz + nanoseconds % kPerSecond * hz / kPerSecond;
}

Nanoseconds time_of_tick(std::uint64_t ticks, std::uint64_t hz) {
  constexpr auto kPerSecond = static_cast<std::uint64_t>(kSecond);
  const std::uint64_t seconds = ticks / hz;
  if (seconds >= static_cast<std::uint64_t>(kNever) / kPerSecond) return kNever;
  return static_cast<Nanoseconds>(seconds * kPerSecond + (ticks % hz * kPerSecond + hz - 1) / hz);
}

}  // namespace doppel::time
