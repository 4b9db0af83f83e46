#include <algorithm>
#include <string_view>

#include "boot/acpi/acpi.h"
#include "boot/acpi/table.h"
#include "boot/platform_layout.h"

namespace doppel::boot::acpi {
namespace {

/// Flags; ACPI 6.5, table 5.10.
constexpr std::uint32_t kWbinvd = 1 << 0, kProcC1 = 1 << 2, kNoSleepButton = 1 << 5, kNoRtcWake = 1 << 6,
                        kTimerValueExtended = 1 << 8, kResetRegisterSupported = 1 << 10;
/// IA-PC boot architecture flags; table 5.11.
constexpr std::uint16_t kLegacyDevices = 1 << 0, k8042 = 1 << 1, kVgaNotPresent = 1 << 2;
/// Latencies from which on C2 and C3 do not exist.
constexpr std::uint16_t kNoC2 = 101, kNoC3 = 1001;
constexpr std::uint8_t kCmosCentury = 0x32;

enum AccessSize : std::uint8_t { kByteAccess = 1, kWordAccess = 2, kDwordAccess = 3 };

GenericAddress port(std::uint64_t address, unsigned bytes, AccessSize access) {
  return {.space = AddressSpace::SystemIo,
          .bit_width = static_cast<std::uint8_t>(bytes * 8),
          .bit_offset = 0,
          .access_size = access,
          .address = address};
}

}  // namespace

// The fields in the order of ACPI 6.5, table 5.9.
std::vector<std::uint8_t> make_fadt(std::uint32_t facs, std::uint32_t dsdt) {
  using U8 = std::uint8_t;
  using U16 = std::uint16_t;
  using U32 = std::uint32_t;
  using U64 = std::uint64_t;
  static_assert(layout::kPmTimerBits == 32);
  Table fadt("FACP", 6);
  fadt.add(facs).add(dsdt).add(U8{0}).add(U8{0});               // profile: unspecified
  fadt.add(U16{layout::kSciIrq}).add(U32{0}).add_zeros(4);      // no SMI command, so no values for it
  fadt.add(U32{layout::kPm1aEvent}).add(U32{0});                // PM1a, PM1b event
  fadt.add(U32{layout::kPm1aControl}).add(U32{0}).add(U32{0});  // PM1a, PM1b, PM2 control
  fadt.add(U32{layout::kPmTimer}).add(U32{layout::kGpe0}).add(U32{0});
  fadt.add(U8{layout::kPm1aEventBytes}).add(U8{layout::kPm1aControlBytes}).add(U8{0});
  fadt.add(U8{layout::kPmTimerBytes}).add(U8{layout::kGpe0Bytes}).add(U8{0}).add(U8{0}).add(U8{0});
  fadt.add(kNoC2).add(kNoC3).add(U16{0}).add(U16{0}).add(U8{0}).add(U8{0});
  fadt.add(U8{0}).add(U8{0}).add(kCmosCentury);  // no day and month alarm
  fadt.add(static_cast<U16>(kLegacyDevices | k8042 | kVgaNotPresent)).add(U8{0});
  fadt.add(kWbinvd | kProcC1 | kNoSleepButton | kNoRtcWake | kTimerValueExtended | kResetRegisterSupported);
  fadt.add(port(layout::kResetControl, 1, kByteAccess)).add(layout::kResetValue);
  fadt.add(U16{0}).add(U8{5});      // ARM flags; minor version
  fadt.add(U64{0}).add(U64{dsdt});  // the FACS is given by its 32-bit address
  fadt.add(port(layout::kPm1aEvent, layout::kPm1aEventBytes, kWordAccess)).add(GenericAddress{});
  fadt.add(port(layout::kPm1aControl, layout::kPm1aControlBytes, kWordAccess)).add(GenericAddress{});
  fadt.add(GenericAddress{});
  fadt.add(port(layout::kPmTimer, layout::kPmTimerBytes, kDwordAccess));
  fadt.add(port(layout::kGpe0, layout::kGpe0Bytes, kByteAccess)).add(GenericAddress{});
  fadt.add(GenericAddress{}).add(GenericAddress{});  // sleep control and status
  static constexpr std::string_view kHypervisor("Doppel\0\0", 8);
  for (const char character : kHypervisor) fadt.add(character);
  return fadt.finish();
}

// Not a Table: the FACS has a header of its own and no checksum (ACPI 6.5, 5.2.10).
std::vector<std::uint8_t> make_facs() {
  constexpr std::size_t kBytes = 64;
  std::vector<std::uint8_t> facs(kBytes);
  std::copy_n("FACS", 4, facs.begin());
  store_le(facs.data() + 4, static_cast<std::uint32_t>(kBytes));
  facs[32] = 2;
  return facs;
}

}  // namespace doppel::boot::acpi
