#include "engine/direct/preference.h"

#include <gtest/gtest.h>

namespace doppel::engine::direct {
namespace {

using namespace std::chrono_literals;
constexpr std::uint64_t kSpace = 0x1234'5000, kOther = 0x2345'6000;

class PreferenceTest : public ::testing::Test {
 protected:
  Preference preference{DirectExecution::Auto};
  Preference::Clock::time_point now{1h};
  std::uint64_t returns = 0;

  /// Asks for so long, every millisecond, while the program makes so many system calls in each.
  bool watch(std::chrono::milliseconds time, std::uint64_t calls_per_ms) {
    bool direct = false;
    for (auto left = time; left > 0ms; left -= 1ms) {
      now += 1ms;
      returns += calls_per_ms;
      direct = preference.ask(kSpace, returns, now);
    }
    return direct;
  }
  /// Of each millisecond, the program computes for so long.
  void run(std::chrono::milliseconds time, std::chrono::microseconds computed, std::chrono::microseconds learning = 0us,
           unsigned rewritten = 0) {
    for (auto left = time; left > 0ms; left -= 1ms) {
      now += 1ms;
      preference.ran(kSpace, {1ms, learning, computed, rewritten}, now);
    }
  }
};

TEST_F(PreferenceTest, ProgramsThatComputeForAWhileAreFavoured) {
  EXPECT_FALSE(watch(90ms, 2));
  EXPECT_TRUE(watch(10ms, 2));
  EXPECT_TRUE(preference.favours(kSpace));
  EXPECT_FALSE(preference.favours(kOther));
}

TEST_F(PreferenceTest, ProgramsThatCallTheirKernelOftenAreNot) {
  EXPECT_FALSE(watch(200ms, 100));
}

TEST_F(PreferenceTest, WhoSleepsMostOfTheTimeDoesNotCompute) {
  for (int i = 0; i < 20; ++i) {
    now += 80ms;
    EXPECT_FALSE(preference.ask(kSpace, ++returns, now));
  }
}

TEST_F(PreferenceTest, AProgramThatComputesStaysFavoured) {
  watch(100ms, 0);
  run(1000ms, 970us);
  EXPECT_TRUE(preference.favours(kSpace));
}

TEST_F(PreferenceTest, OneThatSwitchesAllTheTimeIsBarredForLongerEachTime) {
  auto barred = 0ms;
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(watch(100ms, 0));
    run(100ms, 80us);
    EXPECT_FALSE(preference.favours(kSpace));
    auto waited = 0ms;
    while (!watch(1ms, 0)) waited += 1ms;
    EXPECT_GT(waited, barred);
    barred = waited;
    run(1ms, 1000us);
  }
}

TEST_F(PreferenceTest, WhoWasTriedIsTriedAgainSoonerButNotWhoComesAfterIt) {
  ASSERT_TRUE(watch(100ms, 0));
  run(100ms, 80us);
  ASSERT_FALSE(preference.favours(kSpace));
  EXPECT_FALSE(watch(50ms, 0)) << "barred";
  EXPECT_TRUE(watch(80ms, 0));
  run(100ms, 80us);
  ASSERT_FALSE(preference.favours(kSpace));
  now += 1s;
  EXPECT_FALSE(watch(90ms, 0)) << "may be another program";
  EXPECT_TRUE(watch(20ms, 0));
}

TEST_F(PreferenceTest, CodeMayBeLearntOnceButNotForEver) {
  watch(100ms, 0);
  run(200ms, 100us, 900us);
  EXPECT_TRUE(preference.favours(kSpace));
  run(200ms, 100us, 900us);
  EXPECT_FALSE(preference.favours(kSpace));
}

TEST_F(PreferenceTest, WhoWritesCodeAllTheTimeIsNotFavouredForLong) {
  watch(100ms, 0);
  run(100ms, 990us, 0us, 1);
  EXPECT_TRUE(preference.favours(kSpace));
  run(2ms, 990us, 0us, 20);
  EXPECT_FALSE(preference.favours(kSpace));
}

TEST_F(PreferenceTest, WhoIsNotLeftAloneIsNotFavoured) {
  for (int i = 0; i < 200; ++i) {
    EXPECT_FALSE(watch(4ms, 0));
    preference.ask(kOther, returns, now);
  }
}

TEST_F(PreferenceTest, OneThatIsNoLongerLeftAloneIsBarred) {
  ASSERT_TRUE(watch(100ms, 0));
  for (int i = 0; i < 30; ++i) {
    preference.ask(kSpace, returns, now);
    run(4ms, 990us);
    preference.ask(kOther, returns, now);
  }
  EXPECT_FALSE(preference.favours(kSpace));
}

TEST_F(PreferenceTest, WhatIsReadyIsPreferredSooner) {
  EXPECT_FALSE(watch(20ms, 0));
  EXPECT_FALSE(preference.sighted());
  EXPECT_FALSE(watch(5ms, 0));
  preference.ask(kSpace, returns, now);
  EXPECT_FALSE(preference.sighted()) << "a moment later";
  EXPECT_FALSE(watch(4ms, 0));
  EXPECT_TRUE(preference.sighted());
  preference.prefer(kSpace, now);
  EXPECT_TRUE(preference.favours(kSpace));
  EXPECT_TRUE(preference.ask(kSpace, returns, now));
}

TEST_F(PreferenceTest, AlwaysAndNeverAskNobody) {
  Preference always{DirectExecution::Always}, never{DirectExecution::Never};
  EXPECT_TRUE(always.ask(kSpace, 1'000'000, now));
  EXPECT_TRUE(always.favours(kSpace));
  EXPECT_FALSE(never.ask(kSpace, 0, now));
}

}  // namespace
}  // namespace doppel::engine::direct
