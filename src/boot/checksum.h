#pragma once

#include <cstdint>
#include <numeric>
#include <span>

namespace doppel::boot {

/// What makes the bytes sum up to zero, modulo 256: the checksum of ACPI, SMBIOS and other BIOS tables.
inline std::uint8_t checksum(std::span<const std::uint8_t> bytes) {
  return static_cast<std::uint8_t>(-std::accumulate(bytes.begin(), bytes.end(), 0U));
}

}  // namespace doppel::boot
