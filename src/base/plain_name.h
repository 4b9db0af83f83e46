#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace doppel {

inline constexpr std::size_t kMaxPlainName = 63;

/// What machines and snapshots are called, for names become directories and host names: letters, digits, '-', '_' and
/// '.', at most 63, a letter or digit first.
inline bool is_plain_name(std::string_view name) {
  const auto alphanumeric = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !name.empty() && name.size() <= kMaxPlainName && alphanumeric(name.front()) &&
         std::ranges::all_of(name, [&](char c) { return alphanumeric(c) || c == '-' || c == '_' || c == '.'; });
}

}  // namespace doppel
