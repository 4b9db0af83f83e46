#pragma once

#include <cstdint>
#include <vector>

#include "memory/guest_memory.h"

namespace doppel::boot {

/// Address range types of INT 15h, E820h (ACPI 6.5, 15.1).
enum class E820Type : std::uint32_t { Ram = 1, Reserved = 2, AcpiReclaimable = 3, AcpiNvs = 4 };

struct E820Entry {
  std::uint64_t address = 0;
  std::uint64_t size = 0;
  E820Type type = E820Type::Reserved;

  std::uint64_t end() const { return address + size; }
};

/// The memory map a guest is told: ascending, without overlaps. RAM below the EBDA, from 1 MiB to the PCI hole, and
/// above 4 GiB; the EBDA, the BIOS area, which holds the ACPI and SMBIOS tables, and PCI's extended configuration space
/// are reserved.
std::vector<E820Entry> build_e820(const memory::GuestMemory& memory);

}  // namespace doppel::boot
