#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "memory/guest_memory.h"

namespace doppel::boot::acpi {

/// What the tables have to tell about one machine; all fixed facts come from platform_layout.h.
struct AcpiConfig {
  /// Local APIC IDs are 0 to cpus - 1.
  unsigned cpus = 1;
  /// There is a PCI host bridge with configuration mechanism 1 on bus 0, its INTx lines on the IOAPIC's pins from
  /// layout::kFirstPciGsi, device d's pin p on line (d + p) mod layout::kPciGsis.
  bool pci = false;
  /// Its configuration space is also at layout::kPciEcamBase.
  bool pci_ecam = false;
  /// The VM generation identifier; its bytes go to layout::kVmGenId.
  std::array<std::uint8_t, 16> vm_generation_id{};
};

/// Writes all tables into the BIOS area and returns the address of the RSDP (ACPI 6.5, 5.2.5.3), which is also where a
/// kernel that searches for it looks. The error is a configuration whose tables do not fit there.
Result<memory::GuestPhysical> write_tables(memory::GuestMemory& memory, const AcpiConfig& config);

// --- The tables one by one, finished ---

std::vector<std::uint8_t> make_dsdt(const AcpiConfig& config, std::uint64_t ram_end);
/// `facs` and `dsdt` are physical addresses below 4 GiB.
std::vector<std::uint8_t> make_fadt(std::uint32_t facs, std::uint32_t dsdt);
std::vector<std::uint8_t> make_facs();
std::vector<std::uint8_t> make_madt(const AcpiConfig& config);
std::vector<std::uint8_t> make_hpet();
std::vector<std::uint8_t> make_waet();
std::vector<std::uint8_t> make_mcfg();

}  // namespace doppel::boot::acpi
