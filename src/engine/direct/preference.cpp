#include "engine/direct/preference.h"

#include <algorithm>
#include <utility>

namespace doppel::engine::direct {

namespace {

using namespace std::chrono_literals;

/// A program that has been seen to compute so often, one time after the other and so far apart, goes on with it. One
/// that is young spends its time on being translated, and most end young. Less is asked of those that have been tried,
/// and where the code is there already.
constexpr auto kApart = 4ms;
constexpr unsigned kSightings = 24, kSightingsAgain = 6;
/// Who has not run for so long may be another program, in an address space that has been given up.
constexpr auto kStale = 50ms;
/// So much at least between two system calls or exceptions: each costs several switches of processes.
constexpr auto kLeastBetween = 20us;
/// … and between two visits of other address spaces.
constexpr auto kLeastUndisturbed = 8ms;
constexpr auto kPeriod = 30ms, kLongestPeriod = 200ms;
/// Direct execution takes a half to a quarter of the time that translated code does, and a page fault about ten times
/// of it: a compiler computes for less than a third of its time, and still gains.
constexpr double kLeastComputed = 0.12;
/// Code is made once, it is to be hoped: that is not counted as long as what has been made paid for it.
constexpr auto kMostCredit = 1000ms;
constexpr int kPayment = 2;  ///< so much computing for as much learning
/// Who writes code all the time does not run it for long: each store is left to the interpreter, and the code made
/// anew.
constexpr auto kLeastBetweenRewrites = 500us;
constexpr unsigned kManyRewrites = 20;
constexpr auto kShortestBar = 100ms, kLongestBar = 4000ms;

}  // namespace

bool Preference::ask(std::uint64_t space, std::uint64_t returns, Clock::time_point now) {
  if (when_ != DirectExecution::Auto) return when_ == DirectExecution::Always;
  sighted_ = false;
  if (std::exchange(last_space_, space) != space) ++switches_;
  Space& known = entry(space);
  if (known.space != space) {
    known = {};
    known.space = space;
    known.seen = known.asked = now;
    known.returns = returns;
    known.switches = switches_;
  }
  if (now - std::exchange(known.asked, now) >= kStale) known.tried = false;
  if (known.direct) return true;
  if (now < known.barred_until || now - known.seen < kApart) return false;
  const Clock::duration since = now - known.seen;
  const auto count = static_cast<Clock::duration::rep>(returns - known.returns);
  const auto interruptions = static_cast<Clock::duration::rep>(switches_ - known.switches);
  const bool computes = since < kStale && since >= count * kLeastBetween && since >= interruptions * kLeastUndisturbed;
  known.sightings = computes ? known.sightings + 1 : 0;
  known.seen = now;
  known.returns = returns;
  known.switches = switches_;
  if (known.sightings < (known.tried ? kSightingsAgain : kSightings)) {
    sighted_ = known.sightings >= kSightingsAgain;
    return false;
  }
  prefer(space, now);
  return true;
}

void Preference::prefer(std::uint64_t space, Clock::time_point now) {
  Space& known = entry(space);
  known.direct = known.tried = true;
  known.begin(now);
}

bool Preference::favours(std::uint64_t space) const {
  if (when_ != DirectExecution::Auto) return when_ == DirectExecution::Always;
  const Space& known = spaces_[space / 4096 % spaces_.size()];
  return known.space == space && known.direct;
}

void Preference::ran(std::uint64_t space, const Spent& spent, Clock::time_point now) {
  Space& known = entry(space);
  if (when_ != DirectExecution::Auto || known.space != space || !known.direct) return;
  credit_ = std::min<Clock::duration>(credit_ + spent.computed / kPayment, kMostCredit);
  const Clock::duration paid = std::min(credit_, spent.learning);
  credit_ -= paid;
  known.time += spent.time - paid;
  known.computed += spent.computed;
  known.rewritten += spent.rewritten;
  const bool rewrites = known.rewritten >= kManyRewrites &&
                        known.time < static_cast<Clock::duration::rep>(known.rewritten) * kLeastBetweenRewrites;
  if (!rewrites && known.time < kPeriod && now - known.period < kLongestPeriod) return;
  const auto interruptions = static_cast<Clock::duration::rep>(switches_ - known.switches);
  known.switches = switches_;
  if (rewrites || now - known.period < interruptions * kLeastUndisturbed ||
      static_cast<double>(known.computed.count()) < kLeastComputed * static_cast<double>(known.time.count())) {
    known.direct = false;
    known.sightings = 0;
    known.bar = std::clamp<Clock::duration>(2 * known.bar, kShortestBar, kLongestBar);
    known.barred_until = now + known.bar;
  } else {
    known.bar = std::max<Clock::duration>(known.bar - kPeriod, Clock::duration::zero());
  }
  known.begin(now);
}

}  // namespace doppel::engine::direct
