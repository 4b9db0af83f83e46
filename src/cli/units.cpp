#include "cli/units.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>

namespace doppel::cli {
namespace {

struct Unit {
  char letter;
  unsigned shift;
};
constexpr std::array<Unit, 4> kUnits{{{'T', 40}, {'G', 30}, {'M', 20}, {'K', 10}}};
constexpr double kTooMuch = 9.0e18;

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  const Error bad{fmt::format("\"{}\" is not a size: write a number and a unit, such as 512M or 2G", text)};
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc{} || !(number >= 0)) return bad;
  std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  if (unit.empty()) return bad;
  const char letter = unit.front() >= 'a' ? static_cast<char>(unit.front() - 'a' + 'A') : unit.front();
  unit.remove_prefix(1);
  if (!unit.empty() && unit != "B" && unit != "iB" && unit != "b" && unit != "ib") return bad;
  for (const Unit& known : kUnits) {
    if (known.letter != letter) continue;
    const double bytes = std::ldexp(number, static_cast<int>(known.shift));
    if (bytes >= kTooMuch) return bad;
    return static_cast<std::uint64_t>(bytes);
  }
  return bad;
}

std::string format_size(std::uint64_t bytes) {
  for (const Unit& unit : kUnits) {
    const std::uint64_t size = std::uint64_t{1} << unit.shift;
    if (bytes < size) continue;
    if (bytes % size == 0) return fmt::format("{}{}", bytes >> unit.shift, unit.letter);
    return fmt::format("{:.1f}{}", static_cast<double>(bytes) / static_cast<double>(size), unit.letter);
  }
  return fmt::format("{}B", bytes);
}

std::string format_age(std::int64_t seconds) {
  constexpr std::int64_t kMinute = 60;
  constexpr std::int64_t kHour = 60 * kMinute;
  constexpr std::int64_t kDay = 24 * kHour;
  if (seconds < 2 * kMinute) return fmt::format("{} s", seconds);
  if (seconds < 2 * kHour) return fmt::format("{} min", seconds / kMinute);
  if (seconds < 2 * kDay) return fmt::format("{} h", seconds / kHour);
  return fmt::format("{} d", seconds / kDay);
}

}  // namespace doppel::cli
