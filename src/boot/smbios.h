#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "memory/guest_memory.h"

namespace doppel::boot {

/// What the System Management BIOS tables tell about one machine.
struct SmbiosConfig {
  /// In the order in which a UUID is written.
  std::array<std::uint8_t, 16> uuid{};
  unsigned cpus = 1;
};

/// The structure table (SMBIOS Reference Specification 3.3, chapter 7), types 0, 1, 3, 4, 16, 17, 19, 32 and 127.
std::vector<std::uint8_t> make_smbios_table(const memory::GuestMemory& memory, const SmbiosConfig& config);

/// Writes the 64-bit entry point `_SM3_` (5.2.2) to layout::kSmbios and the table behind it.
Result<void> write_smbios(memory::GuestMemory& memory, const SmbiosConfig& config);

}  // namespace doppel::boot
