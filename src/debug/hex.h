#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Numbers and bytes as the GDB remote protocol writes them.
namespace doppel::debug {

std::string to_hex(std::span<const std::byte> bytes);
std::string to_hex(std::string_view text);
/// Lower case, without leading zeroes.
std::string to_hex(std::uint64_t number);

/// All of `text` as pairs of digits; nothing when it is anything else.
std::optional<std::vector<std::byte>> bytes_from_hex(std::string_view text);
/// All of `text`, 1 to 16 digits.
std::optional<std::uint64_t> number_from_hex(std::string_view text);

/// Cuts `text` at the first `separator`: returns what is before it and leaves what is after. Without one, returns all
/// and leaves nothing.
std::string_view cut(std::string_view& text, char separator);
/// Removes `prefix` from the front if it is there.
bool take_prefix(std::string_view& text, std::string_view prefix);

}  // namespace doppel::debug
