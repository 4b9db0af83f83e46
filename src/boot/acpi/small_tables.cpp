#include "boot/acpi/acpi.h"
#include "boot/acpi/table.h"
#include "boot/platform_layout.h"

namespace doppel::boot::acpi {

// IA-PC HPET Specification 1.0a, 3.2.4.
std::vector<std::uint8_t> make_hpet() {
  constexpr std::uint16_t kMinimumTick = 0x80;
  Table hpet("HPET", 1);
  hpet.add(layout::kHpetEventTimerBlockId);
  hpet.add(GenericAddress{.space = AddressSpace::SystemMemory,
                          .bit_width = 64,
                          .bit_offset = 0,
                          .access_size = 0,
                          .address = layout::kHpetBase});
  hpet.add(std::uint8_t{0}).add(kMinimumTick).add(std::uint8_t{0});
  return hpet.finish();
}

// Windows ACPI Emulated Devices Table: one read of the PM timer suffices, RTC interrupts need no acknowledgement.
std::vector<std::uint8_t> make_waet() {
  constexpr std::uint32_t kPmTimerGood = 1 << 1;
  return Table("WAET", 1).add(kPmTimerGood).finish();
}

// PCI Firmware Specification 3.3, 4.1.2.
std::vector<std::uint8_t> make_mcfg() {
  constexpr std::uint16_t kSegment = 0;
  constexpr std::uint8_t kFirstBus = 0, kLastBus = 0;
  static_assert(layout::kPciEcamBytes == (std::uint64_t{kLastBus} + 1) << 20);
  Table mcfg("MCFG", 1);
  mcfg.add_zeros(8).add(std::uint64_t{layout::kPciEcamBase}).add(kSegment).add(kFirstBus).add(kLastBus).add_zeros(4);
  return mcfg.finish();
}

}  // namespace doppel::boot::acpi
