#pragma once

#include <cstdint>
#include <optional>

namespace doppel::devices {

/// What a clock's registers say, in plain numbers. The Gregorian calendar, UTC.
struct RtcTime {
  int year;     ///< with its century
  int month;    ///< 1 to 12
  int day;      ///< of the month, from 1
  int weekday;  ///< 1 is Sunday
  int hour;     ///< 0 to 23
  int minute;
  int second;

  friend bool operator==(const RtcTime&, const RtcTime&) = default;
};

RtcTime to_calendar(std::int64_t unix_seconds);
/// The weekday is ignored; a day or month that does not exist counts on into the next.
std::int64_t to_unix_seconds(const RtcTime& time);

/// The alarm registers; a field without value is "don't care".
struct RtcAlarm {
  std::optional<int> hour = {};
  std::optional<int> minute = {};
  std::optional<int> second = {};
};

/// First second after `unix_seconds` at which the alarm matches; none when it never does.
std::optional<std::int64_t> next_alarm(const RtcAlarm& alarm, std::int64_t unix_seconds);

}  // namespace doppel::devices
