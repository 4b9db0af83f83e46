#include "boot/acpi/acpi.h"
#include "boot/acpi/table.h"
#include "boot/platform_layout.h"

namespace doppel::boot::acpi {

// Interrupt controller structures; ACPI 6.5, 5.2.12.
std::vector<std::uint8_t> make_madt(const AcpiConfig& config) {
  using U8 = std::uint8_t;
  using U16 = std::uint16_t;
  using U32 = std::uint32_t;
  constexpr U8 kLocalApic = 0, kIoApic = 1, kInterruptSourceOverride = 2, kLocalApicNmi = 4;
  constexpr U32 kPcAtCompatible = 1, kEnabled = 1;
  constexpr U16 kConformsToBus = 0, kActiveHighLevel = 0x0D;
  constexpr U8 kIsa = 0, kAllProcessors = 0xFF, kLint1 = 1;

  Table madt("APIC", 5);
  madt.add(static_cast<U32>(layout::kLocalApicBase)).add(kPcAtCompatible);
  for (unsigned id = 0; id < config.cpus; ++id) {
    madt.add(kLocalApic).add(U8{8}).add(static_cast<U8>(id)).add(static_cast<U8>(id)).add(kEnabled);
  }
  madt.add(kIoApic).add(U8{12}).add(layout::kIoApicId).add(U8{0});
  madt.add(static_cast<U32>(layout::kIoApicBase)).add(U32{0});
  madt.add(kInterruptSourceOverride).add(U8{10}).add(kIsa).add(U8{layout::kTimerIrq});
  madt.add(U32{layout::kTimerGsi}).add(kConformsToBus);
  madt.add(kInterruptSourceOverride).add(U8{10}).add(kIsa).add(U8{layout::kSciIrq});
  madt.add(U32{layout::kSciIrq}).add(kActiveHighLevel);
  madt.add(kLocalApicNmi).add(U8{6}).add(kAllProcessors).add(kConformsToBus).add(kLint1);
  return madt.finish();
}

}  // namespace doppel::boot::acpi
