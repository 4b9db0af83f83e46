#include "guest/dmesg.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace doppel::test {
namespace {

constexpr std::array<std::string_view, 16> kComplaints{
    "warning",          "unstable",        "bug:",   "oops",      "call trace", "unexpected", "firmware bug",
    "acpi error",       "acpi bios error", "lockup", "rcu: info", "spurious",   "bogus",      "general protection",
    "unable to handle", "timed out"};

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

template <std::size_t N>
bool contains_any(std::string_view line, const std::array<std::string_view, N>& words) {
  return std::any_of(words.begin(), words.end(),
                     [line](std::string_view word) { return line.find(word) != std::string_view::npos; });
}

}  // namespace

std::vector<std::string> odd_lines(std::string_view log) {
  std::vector<std::string> odd;
  while (!log.empty()) {
    const std::size_t end = std::min(log.find('\n'), log.size());
    const std::string_view line = log.substr(0, end);
    const std::string folded = lower(line);
    if (contains_any(folded, kComplaints)) odd.emplace_back(line);
    log.remove_prefix(std::min(end + 1, log.size()));
  }
  return odd;
}

}  // namespace doppel::test
