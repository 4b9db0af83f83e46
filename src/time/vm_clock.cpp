#include "time/vm_clock.h"

#include <ctime>

#include "state/visitor.h"

namespace doppel::time {
namespace {

Nanoseconds host_now() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return Nanoseconds{now.tv_sec} * kSecond + now.tv_nsec;
}

}  // namespace

VmClock::VmClock() = default;

Nanoseconds VmClock::now() const {
  for (;;) {
    const std::uint32_t before = version_.load(std::memory_order_acquire);
    const bool paused = paused_.load(std::memory_order_acquire);
    const Nanoseconds base = base_.load(std::memory_order_acquire);
    const Nanoseconds now = paused ? base : host_now() - base;
    if ((before & 1) == 0 && version_.load(std::memory_order_relaxed) == before) return now;
  }
}

template <class Change>
void VmClock::change(const Change& change) {
  version_.fetch_add(1, std::memory_order_acq_rel);
  change();
  version_.fetch_add(1, std::memory_order_release);
}

void VmClock::pause() {
  if (paused()) return;
  // The host's clock is read after the version has become odd: no reader that still counts has read a later time.
  change([this] {
    base_.store(host_now() - base_.load(std::memory_order_relaxed), std::memory_order_release);
    paused_.store(true, std::memory_order_release);
  });
}

void VmClock::resume() {
  if (!paused()) return;
  change([this] {
    base_.store(host_now() - base_.load(std::memory_order_relaxed), std::memory_order_release);
    paused_.store(false, std::memory_order_release);
  });
}

Nanoseconds VmClock::host_time(Nanoseconds t) const {
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
  if (paused() && value >= 0 && value <= kLatest)
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
