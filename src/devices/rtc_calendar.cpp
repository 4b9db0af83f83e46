#include "devices/rtc_calendar.h"

namespace doppel::devices {
namespace {

constexpr std::int64_t kMinute = 60, kHour = 3600, kDay = 86'400;
/// A cycle of the Gregorian calendar: 400 years.
constexpr std::int64_t kCycleYears = 400, kCycleDays = 146'097;
/// Days from 0000-03-01, where the arithmetic below starts, to 1970-01-01.
constexpr std::int64_t kEpochDays = 719'468;

constexpr std::int64_t floor_div(std::int64_t value, std::int64_t divisor) {
  return value / divisor - (value % divisor < 0 ? 1 : 0);
}

/// Days before the first of a month in a year that starts in March, so that a leap day comes last.
constexpr std::int64_t days_before_month(std::int64_t months_since_march) {
  return (153 * months_since_march + 2) / 5;
}

}  // namespace

RtcTime to_calendar(std::int64_t unix_seconds) {
  const std::int64_t days = floor_div(unix_seconds, kDay);
  const std::int64_t second_of_day = unix_seconds - days * kDay;

  const std::int64_t shifted = days + kEpochDays;
  const std::int64_t cycle = floor_div(shifted, kCycleDays);
  const std::int64_t day_of_cycle = shifted - cycle * kCycleDays;
  const std::int64_t year_of_cycle =
      (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36'524 - day_of_cycle / 146'096) / 365;
  const std::int64_t day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
  const std::int64_t month = (5 * day_of_year + 2) / 153;  // March is 0

  RtcTime time{};
  time.month = static_cast<int>(month < 10 ? month + 3 : month - 9);
  time.year = static_cast<int>(cycle * kCycleYears + year_of_cycle + (time.month <= 2 ? 1 : 0));
  time.day = static_cast<int>(day_of_year - days_before_month(month) + 1);
  time.weekday = static_cast<int>(((days + 4) % 7 + 7) % 7 + 1);  // 1970-01-01 was a Thursday
  time.hour = static_cast<int>(second_of_day / kHour);
  time.minute = static_cast<int>(second_of_day / kMinute % 60);
  time.second = static_cast<int>(second_of_day % 60);
  return time;
}

std::int64_t to_unix_seconds(const RtcTime& time) {
  const std::int64_t months = std::int64_t{time.year} * 12 + time.month - 3;  // since March of year 0
  const std::int64_t year = floor_div(months, 12);
  const std::int64_t cycle = floor_div(year, kCycleYears);
  const std::int64_t year_of_cycle = year - cycle * kCycleYears;
  const std::int64_t days = cycle * kCycleDays + 365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100 +
                            days_before_month(months - year * 12) + time.day - 1 - kEpochDays;
  return days * kDay + time.hour * kHour + time.minute * kMinute + time.second;
}

std::optional<std::int64_t> next_alarm(const RtcAlarm& alarm, std::int64_t unix_seconds) {
  // Each step skips to the next hour, minute or second that can match: at most a day's hours and an hour's minutes.
  const std::int64_t midnight = floor_div(unix_seconds, kDay) * kDay;
  std::int64_t second = unix_seconds - midnight + 1;
  const std::int64_t last = unix_seconds - midnight + kDay;
  while (second <= last) {
    if (alarm.hour && second / kHour % 24 != *alarm.hour) {
      second = (second / kHour + 1) * kHour;
    } else if (alarm.minute && second / kMinute % 60 != *alarm.minute) {
      second = (second / kMinute + 1) * kMinute;
    } else if (alarm.second && second % 60 != *alarm.second) {
      ++second;
    } else {
      return midnight + second;
    }
  }
  return std::nullopt;
}

}  // namespace doppel::devices
