#include "boot/acpi/acpi.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "base/bits.h"
#include "boot/acpi/table.h"
#include "boot/checksum.h"
#include "boot/platform_layout.h"

namespace doppel::boot::acpi {
namespace {

using memory::GuestPhysical;
using Bytes = std::vector<std::uint8_t>;

constexpr std::uint64_t kRsdpBytes = 36;

/// Lays tables out one after another.
class Writer {
 public:
  explicit Writer(memory::GuestMemory& memory) : memory_(memory) {}

  /// Returns the table's address. FACS wants 64-byte alignment (ACPI 6.5, 5.2.10); nobody minds it elsewhere.
  std::uint32_t place(const Bytes& table) {
    const GuestPhysical address = next_;
    next_ = align_up(address + table.size(), 64);
    if (next_ > layout::kAcpiTablesEnd || !memory_.write(address, std::as_bytes(std::span{table}))) fits_ = false;
    return static_cast<std::uint32_t>(address);
  }
  bool fits() const { return fits_; }

 private:
  memory::GuestMemory& memory_;
  GuestPhysical next_ = align_up(layout::kAcpiTables + kRsdpBytes, 64);
  bool fits_ = true;
};

Bytes make_rsdp(std::uint32_t rsdt, std::uint32_t xsdt) {
  constexpr std::size_t kVersion1Bytes = 20, kChecksum = 8, kExtendedChecksum = 32;
  Bytes rsdp(kRsdpBytes);
  std::copy_n("RSD PTR ", 8, rsdp.begin());
  std::copy(kOemId.begin(), kOemId.end(), rsdp.begin() + 9);
  rsdp[15] = 2;
  store_le(rsdp.data() + 16, rsdt);
  store_le(rsdp.data() + 20, static_cast<std::uint32_t>(kRsdpBytes));
  store_le(rsdp.data() + 24, std::uint64_t{xsdt});
  rsdp[kChecksum] = checksum(std::span{rsdp}.first(kVersion1Bytes));
  rsdp[kExtendedChecksum] = checksum(rsdp);
  return rsdp;
}

/// RSDT and XSDT: the addresses of all other tables, 4 or 8 bytes wide.
template <class Address>
Bytes make_root_table(const char* signature, const std::vector<std::uint32_t>& tables) {
  Table root(signature, 1);
  for (const std::uint32_t table : tables) root.add(Address{table});
  return root.finish();
}

}  // namespace

Result<GuestPhysical> write_tables(memory::GuestMemory& memory, const AcpiConfig& config) {
  if (config.cpus == 0 || config.cpus > layout::kMaxCpus) {
    return Error{fmt::format("a machine has 1 to {} processors, not {}", layout::kMaxCpus, config.cpus)};
  }
  Writer writer(memory);
  const std::uint32_t facs = writer.place(make_facs());
  const std::uint32_t dsdt = writer.place(make_dsdt(config, memory.end()));
  std::vector<std::uint32_t> tables{writer.place(make_fadt(facs, dsdt)), writer.place(make_madt(config)),
                                    writer.place(make_hpet()), writer.place(make_waet())};
  if (config.pci && config.pci_ecam) tables.push_back(writer.place(make_mcfg()));
  const std::uint32_t rsdt = writer.place(make_root_table<std::uint32_t>("RSDT", tables));
  const std::uint32_t xsdt = writer.place(make_root_table<std::uint64_t>("XSDT", tables));
  if (!writer.fits()) return Error{"the ACPI tables do not fit into the BIOS area"};
  const Bytes rsdp = make_rsdp(rsdt, xsdt);
  memory.write(layout::kAcpiTables, std::as_bytes(std::span{rsdp}));
  memory.write(layout::kVmGenId, std::as_bytes(std::span{config.vm_generation_id}));
  return layout::kAcpiTables;
}

}  // namespace doppel::boot::acpi
