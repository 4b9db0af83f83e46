#include "devices/rtc_calendar.h"

#include <gtest/gtest.h>

#include <ctime>

namespace doppel::devices {
namespace {

TEST(RtcCalendar, KnownDates) {
  EXPECT_EQ(to_calendar(0), (RtcTime{1970, 1, 1, 5, 0, 0, 0}));
  EXPECT_EQ(to_calendar(951'782'399), (RtcTime{2000, 2, 28, 2, 23, 59, 59}));
  EXPECT_EQ(to_calendar(951'782'400), (RtcTime{2000, 2, 29, 3, 0, 0, 0}));
  EXPECT_EQ(to_calendar(4'107'542'400), (RtcTime{2100, 3, 1, 2, 0, 0, 0})) << "2100 is no leap year";
  EXPECT_EQ(to_calendar(-1), (RtcTime{1969, 12, 31, 4, 23, 59, 59}));
}

TEST(RtcCalendar, AgreesWithTheHostsLibrary) {
  for (std::int64_t seconds = -2'000'000'000; seconds < 7'000'000'000; seconds += 7'654'321) {
    std::tm tm{};
    const std::time_t t = seconds;
    ASSERT_NE(::gmtime_r(&t, &tm), nullptr);
    const RtcTime expected{tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_wday + 1,
                           tm.tm_hour,        tm.tm_min,     tm.tm_sec};
    ASSERT_EQ(to_calendar(seconds), expected) << seconds;
    ASSERT_EQ(to_unix_seconds(expected), seconds);
  }
}

TEST(RtcCalendar, OverflowingFieldsCarry) {
  EXPECT_EQ(to_unix_seconds({2023, 14, 1, 0, 0, 0, 0}), to_unix_seconds({2024, 2, 1, 0, 0, 0, 0}));
  EXPECT_EQ(to_unix_seconds({2024, 1, 32, 0, 25, 61, 61}), to_unix_seconds({2024, 2, 2, 0, 2, 2, 1}));
  EXPECT_EQ(to_unix_seconds({2024, 0, 1, 0, 0, 0, 0}), to_unix_seconds({2023, 12, 1, 0, 0, 0, 0}));
}

TEST(RtcAlarm, EveryCombinationOfDontCare) {
  const std::int64_t now = to_unix_seconds({2024, 5, 6, 0, 10, 20, 30});
  const auto at = [](int day, int hour, int minute, int second) {
    return to_unix_seconds({2024, 5, day, 0, hour, minute, second});
  };
  EXPECT_EQ(next_alarm({}, now), at(6, 10, 20, 31));
  EXPECT_EQ(next_alarm({.second = 30}, now), at(6, 10, 21, 30));
  EXPECT_EQ(next_alarm({.minute = 20}, now), at(6, 10, 20, 31));
  EXPECT_EQ(next_alarm({.minute = 19}, now), at(6, 11, 19, 0));
  EXPECT_EQ(next_alarm({.minute = 19, .second = 5}, now), at(6, 11, 19, 5));
  EXPECT_EQ(next_alarm({.hour = 9}, now), at(7, 9, 0, 0));
  EXPECT_EQ(next_alarm({.hour = 10, .second = 0}, now), at(6, 10, 21, 0));
  EXPECT_EQ(next_alarm({.hour = 10, .minute = 20, .second = 30}, now), at(7, 10, 20, 30));
  EXPECT_EQ(next_alarm({.hour = 23, .minute = 59, .second = 59}, now), at(6, 23, 59, 59));
  EXPECT_EQ(next_alarm({.hour = 0, .minute = 0, .second = 0}, now), at(7, 0, 0, 0));
}

TEST(RtcAlarm, ImpossibleFieldsNeverMatch) {
  EXPECT_EQ(next_alarm({.hour = 24}, 0), std::nullopt);
  EXPECT_EQ(next_alarm({.second = 60}, 0), std::nullopt);
}

}  // namespace
}  // namespace doppel::devices
