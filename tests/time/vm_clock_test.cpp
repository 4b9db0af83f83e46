#include "time/vm_clock.h"

#include <gtest/gtest.h>

#include <ctime>
#include <thread>

#include "state/snapshot_io.h"

namespace doppel::time {
namespace {

Nanoseconds host_now() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return Nanoseconds{now.tv_sec} * kSecond + now.tv_nsec;
}

state::DescribeFunction describe(VmClock& clock) {
  return [&clock](state::Visitor& v) { clock.describe(v); };
}

/// Waits until the host's clock has moved on.
void pass_time() {
  const Nanoseconds start = host_now();
  while (host_now() < start + 1000) {
  }
}

TEST(VmClock, StartsPausedAtZero) {
  const VmClock clock;
  EXPECT_TRUE(clock.paused());
  pass_time();
  EXPECT_EQ(clock.now(), 0);
}

TEST(VmClock, RunsWithTheHostAndStandsStillWhilePaused) {
  VmClock clock;
  const Nanoseconds before = host_now();
  clock.resume();
  pass_time();
  const Nanoseconds running = clock.now();
  EXPECT_GT(running, 0);
  clock.pause();
  const Nanoseconds paused = clock.now();
  EXPECT_GE(paused, running);
  EXPECT_LE(paused, host_now() - before);
  pass_time();
  EXPECT_EQ(clock.now(), paused);
  clock.resume();
  EXPECT_GE(clock.now(), paused);
  EXPECT_LE(clock.now(), paused + (host_now() - before));
}

TEST(VmClock, RepeatedPauseAndResumeDoNothing) {
  VmClock clock;
  clock.pause();
  EXPECT_EQ(clock.now(), 0);
  clock.resume();
  pass_time();
  const Nanoseconds earlier = clock.now();
  clock.resume();
  EXPECT_GE(clock.now(), earlier);
}

TEST(VmClock, HostTimeIsTheInverseOfNow) {
  VmClock clock;
  pass_time();
  clock.resume();
  const Nanoseconds before = host_now();
  const Nanoseconds now = clock.now();
  const Nanoseconds after = host_now();
  EXPECT_GE(clock.host_time(now), before);
  EXPECT_LE(clock.host_time(now), after);
  EXPECT_EQ(clock.host_time(kNever), kNever);
}

TEST(VmClock, GoesOnWhereItWasSaved) {
  VmClock saved;
  saved.resume();
  pass_time();
  saved.pause();
  VmClock restored;
  ASSERT_TRUE(state::load(state::save(describe(saved)), describe(restored)));
  EXPECT_EQ(restored.now(), saved.now());
  EXPECT_TRUE(restored.paused());
  restored.resume();
  EXPECT_GE(restored.now(), saved.now());
}

TEST(VmClock, RefusesTimesThatCannotBe) {
  VmClock clock;
  for (const Nanoseconds impossible : {Nanoseconds{-1}, INT64_MIN, kNever, kNever / 2}) {
    const auto bytes = state::save([impossible](state::Visitor& v) {
      Nanoseconds now = impossible;
      v.field(1, "now", now);
    });
    EXPECT_FALSE(state::load(bytes, describe(clock))) << impossible;
    EXPECT_EQ(clock.now(), 0);
  }
}

TEST(VmClock, NeverGoesBackInAnyThread) {
  VmClock clock;
  std::atomic<bool> done{false};
  std::atomic<int> backwards{0};
  std::thread reader([&] {
    Nanoseconds last = 0;
    while (!done) {
      const Nanoseconds now = clock.now();
      if (now < last) ++backwards;
      last = now;
    }
  });
  for (int i = 0; i < 20000; ++i) {
    clock.resume();
    clock.pause();
  }
  done = true;
  reader.join();
  EXPECT_EQ(backwards.load(), 0);
}

/// Lets a running clock see enough of the host's TSC to make a line of it.
void wait_for_line(const VmClock& clock) {
  while (!clock.line().now()) clock.now();
}

TEST(VmClock, BecomesALineOverTheHostsTsc) {
  VmClock clock(true);
  clock.resume();
  wait_for_line(clock);
  for (int i = 0; i < 1000; ++i) {
    const Nanoseconds before = clock.now();
    const std::optional<std::uint64_t> at = clock.line().now();
    const Nanoseconds after = clock.now();
    if (!at) continue;  // bent just now
    EXPECT_GE(static_cast<Nanoseconds>(*at), before);
    EXPECT_LE(static_cast<Nanoseconds>(*at), after);
  }
}

TEST(VmClock, HasNoLineWhilePausedAndGoesOnWithOne) {
  VmClock clock(true);
  clock.resume();
  wait_for_line(clock);
  clock.pause();
  EXPECT_FALSE(clock.line().now());
  const Nanoseconds paused = clock.now();
  pass_time();
  EXPECT_EQ(clock.now(), paused);
  const Nanoseconds before = host_now();
  clock.resume();
  EXPECT_TRUE(clock.line().now());
  EXPECT_GE(clock.now(), paused);
  EXPECT_LE(clock.now(), paused + 2 * (host_now() - before));
}

TEST(VmClock, HasNoLineWhereTheTscIsNoClock) {
  VmClock clock(false);
  clock.resume();
  const Nanoseconds end = host_now() + 50'000'000;
  while (host_now() < end) clock.now();
  EXPECT_FALSE(clock.line().now());
}

TEST(VmClock, StaysCloseToTheHostsClockOverManyBends) {
  VmClock clock(true);
  const Nanoseconds before = host_now();
  clock.resume();
  const Nanoseconds after = host_now();
  wait_for_line(clock);
  constexpr Nanoseconds kOff = 20'000;
  while (host_now() < after + kSecond) {
    const Nanoseconds earliest = host_now() - after, now = clock.now(), latest = host_now() - before;
    ASSERT_GE(now, earliest - kOff);
    ASSERT_LE(now, latest + kOff);
  }
}

TEST(VmClock, NeverGoesBackBetweenThreadsWhileTheLineIsBent) {
  VmClock clock(true);
  clock.resume();
  wait_for_line(clock);
  std::atomic<Nanoseconds> latest{0};
  std::atomic<int> backwards{0};
  const Nanoseconds end = host_now() + kSecond / 2;
  const auto read = [&] {
    while (host_now() < end) {
      const Nanoseconds seen = latest.load();
      Nanoseconds now = clock.now();
      if (now < seen) ++backwards;
      for (Nanoseconds known = seen; known < now && !latest.compare_exchange_weak(known, now);) {
      }
    }
  };
  std::thread first(read), second(read);
  first.join();
  second.join();
  EXPECT_EQ(backwards.load(), 0);
}

TEST(TscLine, DoesNotHoldBeforeItsStart) {
  TscLine line;
  line.take_back();
  line.put(host_tsc() + (std::uint64_t{1} << 40), 1000, std::uint64_t{1} << 62);
  EXPECT_FALSE(line.now());
  line.take_back();
  line.put(host_tsc(), 1000, std::uint64_t{1} << 62);
  EXPECT_TRUE(line.now());
  EXPECT_GE(*line.now(), 1000U);
}

TEST(Ticks, AreExactWithoutOverflow) {
  constexpr std::uint64_t kPitHz = 1'193'182;
  EXPECT_EQ(ticks_at(0, kPitHz), 0U);
  EXPECT_EQ(ticks_at(kSecond, kPitHz), kPitHz);
  EXPECT_EQ(ticks_at(kSecond - 1, kPitHz), kPitHz - 1);
  EXPECT_EQ(ticks_at(kSecond * 3'000'000'000, kPitHz), kPitHz * 3'000'000'000);
  EXPECT_EQ(ticks_at(12345, kTscHz), 12345U);
}

TEST(Ticks, TimeOfTickIsTheFirstInstantThatHasIt) {
  for (const std::uint64_t hz :
       {std::uint64_t{32'768}, std::uint64_t{1'193'182}, std::uint64_t{3'579'545}, std::uint64_t{10'000'000}, kTscHz}) {
    for (const std::uint64_t tick :
         {std::uint64_t{1}, std::uint64_t{2}, std::uint64_t{999'983}, hz * 86'400 * 365 + 7}) {
      const Nanoseconds t = time_of_tick(tick, hz);
      EXPECT_EQ(ticks_at(t, hz), tick) << hz;
      EXPECT_EQ(ticks_at(t - 1, hz), tick - 1) << hz;
    }
  }
  EXPECT_EQ(time_of_tick(0, 32'768), 0);
  EXPECT_EQ(time_of_tick(~std::uint64_t{0}, 32'768), kNever);
}

}  // namespace
}  // namespace doppel::time
