#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace doppel::snapshot {

/// CRC-32C (RFC 3720, B.4).
std::uint32_t crc32c(std::span<const std::byte> bytes);

}  // namespace doppel::snapshot
