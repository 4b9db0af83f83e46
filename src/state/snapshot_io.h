#pragma once

#include <cstddef>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "state/visitor.h"

/// The visitors that exist, each behind one call. `describe` is any callable that fills a Visitor; most callers pass a
/// component.
namespace doppel::state {

using DescribeFunction = std::function<void(Visitor&)>;

/// The state as bytes; format.h has the layout.
std::vector<std::byte> save(const DescribeFunction& describe);

/// Replaces the state by what `save` made. Bytes are hostile: truncated, oversized, repeated or unknown fields and
/// values that do not fit their type, or that the component's require() refuses, are errors; the state is then as it
/// was, and nothing of on_loaded runs. Fields that the bytes lack keep their value.
Result<void> load(std::span<const std::byte> bytes, const DescribeFunction& describe);

/// The state for people: names and values as a JSON object, byte strings in hexadecimal.
nlohmann::json inspect(const DescribeFunction& describe);

/// One line per field in which the two differ: "uart.ier: 3 != 0". Empty when they are equal.
std::vector<std::string> diff(const DescribeFunction& left, const DescribeFunction& right);

/// One line per field, "uart.1 ier u8"; the golden schema files are made of it.
std::string schema(const DescribeFunction& describe);

}  // namespace doppel::state
