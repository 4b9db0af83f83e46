#include "time/timer_queue.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace doppel::time {
namespace {

TEST(TimerQueue, RunsWhatIsDueEarliestFirst) {
  TimerQueue queue;
  std::string order;
  Timer a(queue, [&](Nanoseconds) { order += 'a'; });
  Timer b(queue, [&](Nanoseconds) { order += 'b'; });
  Timer c(queue, [&](Nanoseconds) { order += 'c'; });
  a.arm(30);
  b.arm(10);
  c.arm(20);
  EXPECT_EQ(queue.next_deadline(), 10);
  queue.run_expired(9);
  EXPECT_EQ(order, "");
  queue.run_expired(20);
  EXPECT_EQ(order, "bc");
  EXPECT_EQ(queue.next_deadline(), 30);
  EXPECT_EQ(b.deadline(), kNever);
  queue.run_expired(1000);
  queue.run_expired(1000);
  EXPECT_EQ(order, "bca");
  EXPECT_EQ(queue.next_deadline(), kNever);
}

TEST(TimerQueue, TellsTheCallbackTheTime) {
  TimerQueue queue;
  Nanoseconds told = 0;
  Timer timer(queue, [&](Nanoseconds now) { told = now; });
  timer.arm(5);
  queue.run_expired(8);
  EXPECT_EQ(told, 8);
}

TEST(TimerQueue, RearmingReplacesAndNeverDisarms) {
  TimerQueue queue;
  int runs = 0;
  Timer timer(queue, [&](Nanoseconds) { ++runs; });
  timer.arm(10);
  timer.arm(20);
  EXPECT_EQ(queue.next_deadline(), 20);
  queue.run_expired(10);
  EXPECT_EQ(runs, 0);
  timer.arm(kNever);
  EXPECT_EQ(queue.next_deadline(), kNever);
  timer.arm(5);
  timer.disarm();
  queue.run_expired(100);
  EXPECT_EQ(runs, 0);
}

TEST(TimerQueue, CallbacksMayRearmAndDisarm) {
  TimerQueue queue;
  int periodic_runs = 0;
  int victim_runs = 0;
  Timer victim(queue, [&](Nanoseconds) { ++victim_runs; });
  Timer ticking(queue, [&](Nanoseconds) {
    ++periodic_runs;
    victim.disarm();
    ticking.arm(10 * (periodic_runs + 1));
  });
  ticking.arm(10);
  victim.arm(15);
  queue.run_expired(35);
  EXPECT_EQ(periodic_runs, 3) << "at 10, 20 and 30";
  EXPECT_EQ(victim_runs, 0);
  EXPECT_EQ(queue.next_deadline(), 40);
}

TEST(TimerQueue, ReportsOnlyEarlierDeadlines) {
  TimerQueue queue;
  std::vector<Nanoseconds> reported;
  queue.set_on_earlier([&](Nanoseconds deadline) { reported.push_back(deadline); });
  Timer a(queue, [](Nanoseconds) {});
  Timer b(queue, [](Nanoseconds) {});
  a.arm(50);
  b.arm(60);
  b.arm(40);
  b.arm(45);
  a.disarm();
  EXPECT_EQ(reported, (std::vector<Nanoseconds>{50, 40}));
}

TEST(TimerQueue, DestructionDisarms) {
  TimerQueue queue;
  int runs = 0;
  auto timer = std::make_unique<Timer>(queue, [&](Nanoseconds) { ++runs; });
  timer->arm(1);
  timer.reset();
  EXPECT_EQ(queue.next_deadline(), kNever);
  queue.run_expired(10);
  EXPECT_EQ(runs, 0);
}

TEST(TimerQueue, DestructionWaitsForItsCallback) {
  TimerQueue queue;
  std::atomic<bool> entered{false};
  std::atomic<bool> left{false};
  auto timer = std::make_unique<Timer>(queue, [&](Nanoseconds) {
    entered = true;
    entered.notify_all();
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    left = true;
  });
  timer->arm(1);
  std::thread runner([&] { queue.run_expired(1); });
  entered.wait(false);
  timer.reset();
  EXPECT_TRUE(left);
  runner.join();
}

TEST(TimerQueue, EachDeadlineRunsOnceAmongThreads) {
  TimerQueue queue;
  std::atomic<int> runs{0};
  std::atomic<int> at_once{0};
  std::atomic<int> overlaps{0};
  std::vector<std::unique_ptr<Timer>> timers;
  timers.reserve(8);
  for (int i = 0; i < 8; ++i) {
    timers.push_back(std::make_unique<Timer>(queue, [&](Nanoseconds) {
      if (++at_once > 1) ++overlaps;
      ++runs;
      --at_once;
    }));
  }
  constexpr int kRounds = 500;
  for (int round = 1; round <= kRounds; ++round) {
    for (const auto& timer : timers) timer->arm(round);
    std::thread other([&] { queue.run_expired(round); });
    queue.run_expired(round);
    other.join();
    ASSERT_EQ(runs.load(), round * 8);
  }
  EXPECT_EQ(overlaps.load(), 0);
}

}  // namespace
}  // namespace doppel::time
