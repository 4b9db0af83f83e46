#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

/// Sizes and times as people write them.
namespace doppel::cli {

/// "512M", "2G", "1.5GiB" …: a number and a unit of K, M, G or T, powers of 1024. A bare number is an error, because
/// nobody can tell what it means.
Result<std::uint64_t> parse_size(std::string_view text);
/// The shortest exact form with a unit, else with one decimal.
std::string format_size(std::uint64_t bytes);
/// "3 s", "12 min", "5 h", "2 d".
std::string format_age(std::int64_t seconds);

}  // namespace doppel::cli
