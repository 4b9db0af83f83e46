#include "engine/direct/cpu_pin.h"

namespace doppel::engine::direct {

namespace {
using namespace std::chrono_literals;
/// It is not asked anew more often than that, but after a pause.
constexpr auto kPeriod = 50ms, kPause = 2ms;
}  // namespace

int CpuPlaces::take(int here, const cpu_set_t& allowed) {
  const std::lock_guard guard(mutex_);
  const auto load = [this](int cpu) {
    const auto index = static_cast<std::size_t>(cpu);
    return index < taken_.size() ? taken_[index] : 0;
  };
  int best = here;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed) && load(cpu) < load(best)) best = cpu;
  }
  const auto index = static_cast<std::size_t>(best);
  if (index >= taken_.size()) taken_.resize(index + 1);
  ++taken_[index];
  return best;
}

void CpuPlaces::give_back(int cpu) {
  const std::lock_guard guard(mutex_);
  --taken_[static_cast<std::size_t>(cpu)];
}

std::optional<int> CpuPin::settle(Clock::time_point now) {
  const bool stale = now - pinned_ > kPeriod || now - settled_ > kPause;
  settled_ = now;
  if (cpu_ && !stale) return std::nullopt;
  const std::optional<int> before = cpu_;
  release();
  if (::sched_getaffinity(0, sizeof allowed_, &allowed_) != 0) return std::nullopt;
  const int here = ::sched_getcpu();
  if (here < 0) return std::nullopt;
  const int cpu = places_.take(here, allowed_);
  cpu_set_t only{};
  CPU_SET(cpu, &only);
  if (::sched_setaffinity(0, sizeof only, &only) != 0) {
    places_.give_back(cpu);
    return std::nullopt;
  }
  cpu_ = cpu;
  pinned_ = now;
  return cpu_ == before ? std::nullopt : cpu_;
}

void CpuPin::release() {
  if (!cpu_) return;
  places_.give_back(*cpu_);
  cpu_.reset();
  ::sched_setaffinity(0, sizeof allowed_, &allowed_);
}

}  // namespace doppel::engine::direct
