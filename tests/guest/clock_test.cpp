// The guest's clock against the host's.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include "guest/doppel_process.h"

namespace doppel::test {
namespace {

using Seconds = std::chrono::duration<double>;

/// By how much the guest's clock is ahead of the host's, as bounds that no delay between the two can break.
struct Offset {
  double low, high;
};

Offset sample(DoppelProcess& doppel, int number) {
  const std::string mark = "uptime-" + std::to_string(number) + "=";
  const Seconds before = std::chrono::steady_clock::now().time_since_epoch();
  // The quotes keep the echo of what is typed from matching.
  doppel.send("echo uptime-''" + std::to_string(number) + "=$(cut -d' ' -f1 /proc/uptime)=\n");
  EXPECT_TRUE(doppel.expect(mark)) << doppel.output();
  const std::size_t at = doppel.output().rfind(mark) + mark.size();
  EXPECT_TRUE(doppel.expect("="));
  const Seconds after = std::chrono::steady_clock::now().time_since_epoch();
  const double uptime = std::strtod(doppel.output().c_str() + at, nullptr);
  constexpr double kResolution = 0.01;
  return {uptime - after.count(), uptime + kResolution - before.count()};
}

/// The narrowest of several.
Offset measure(DoppelProcess& doppel, int first) {
  Offset best = sample(doppel, first);
  for (int i = 1; i < 10; ++i) {
    const Offset next = sample(doppel, first + i);
    best = {std::max(best.low, next.low), std::min(best.high, next.high)};
  }
  return best;
}

TEST(Clock, StaysWithinATenthOfASecondOfTheHostsForFiveMinutes) {
  DoppelProcess doppel({"run", "--append", "console=ttyS0 quiet TERM=dumb"});
  ASSERT_TRUE(doppel.expect("# ")) << doppel.output() << doppel.errors();
  const Offset start = measure(doppel, 100);
  std::this_thread::sleep_for(std::chrono::minutes(5));  // what is promised is about this long a time
  const Offset end = measure(doppel, 200);
  EXPECT_LT(end.low - start.high, 0.1) << "the guest's clock is fast";
  EXPECT_LT(start.low - end.high, 0.1) << "the guest's clock is slow";
  doppel.send("poweroff\n");
  EXPECT_EQ(doppel.wait(), 0);
}

}  // namespace
}  // namespace doppel::test
