#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "storage/file.h"

namespace doppel::storage {

enum class ImageFormat : std::uint8_t { Raw, Qcow2, Other };

/// By the first bytes of a file. `Other`: a format that is known to exist and not supported, with its name in
/// probe_format_name.
ImageFormat probe_format(std::span<const std::byte> header);
std::string_view probe_format_name(std::span<const std::byte> header);

/// "raw", "qcow2"; the error lists them.
Result<ImageFormat> parse_format(std::string_view name);

}  // namespace doppel::storage
