#include "engine/direct/preference.h"

#include <algorithm>

namespace doppel::engine::direct {

namespace {

using namespace std::chrono_literals;

/// A program that has been seen to compute so often, one time after the other and so far apart, goes on with it. One
/// that is young spends its time on being translated.
constexpr auto kApart = 4ms, kStale = 50ms;
constexpr unsigned kSightings = 6, kSightingsAgain = 2;
/// So much at least between two system calls or exceptions: each costs several switches of processes.
constexpr auto kLeastBetween = 30us;
constexpr auto kPeriod = 3ms, kLongestPeriod = 12ms;
/// Direct execution takes about half the time that translated code does: below that share of computing it loses.
constexpr double kLeastComputed = 0.6;
/// Code is translated once, it is to be hoped.
constexpr auto kFreeLearning = 20ms;
constexpr auto kShortestBar = 100ms, kLongestBar = 4000ms;

}  // namespace

bool Preference::ask(std::uint64_t space, std::uint64_t returns, Clock::time_point now) {
  if (when_ != DirectExecution::Auto) return when_ == DirectExecution::Always;
  Space& known = entry(space);
  if (known.space != space) {
    known = {};
    known.space = space;
    known.seen = now;
    known.returns = returns;
  }
  if (known.direct) return true;
  if (now < known.barred_until || now - known.seen < kApart) return false;
  const Clock::duration since = now - known.seen;
  const auto count = static_cast<Clock::duration::rep>(returns - known.returns);
  const bool computes = since < kStale && since >= count * kLeastBetween;
  known.sightings = computes ? known.sightings + 1 : 0;
  known.seen = now;
  known.returns = returns;
  if (known.sightings < (known.tried ? kSightingsAgain : kSightings)) return false;
  known.direct = known.tried = true;
  known.period = now;
  known.time = known.computed = {};
  return true;
}

bool Preference::favours(std::uint64_t space) const {
  if (when_ != DirectExecution::Auto) return when_ == DirectExecution::Always;
  const Space& known = spaces_[space / 4096 % spaces_.size()];
  return known.space == space && known.direct;
}

void Preference::ran(std::uint64_t space, const Spent& spent, Clock::time_point now) {
  Space& known = entry(space);
  if (when_ != DirectExecution::Auto || known.space != space || !known.direct) return;
  known.time += spent.time;
  if (known.learnt < kFreeLearning) {
    known.learnt += spent.learning;
    known.time -= spent.learning;
  }
  known.computed += spent.turns - static_cast<Clock::duration::rep>(spent.count) * kSwitches;
  if (known.time < kPeriod && now - known.period < kLongestPeriod) return;
  if (static_cast<double>(known.computed.count()) < kLeastComputed * static_cast<double>(known.time.count())) {
    known.direct = false;
    known.sightings = 0;
    known.bar = std::clamp<Clock::duration>(2 * known.bar, kShortestBar, kLongestBar);
    known.barred_until = now + known.bar;
  } else {
    known.bar = std::max<Clock::duration>(known.bar - kPeriod, Clock::duration::zero());
  }
  known.period = now;
  known.time = known.computed = {};
}

}  // namespace doppel::engine::direct
