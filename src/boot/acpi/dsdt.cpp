#include <fmt/format.h>

#include "boot/acpi/acpi.h"
#include "boot/acpi/aml.h"
#include "boot/acpi/table.h"
#include "boot/platform_layout.h"

namespace doppel::boot::acpi {
namespace {

using aml::Bytes;
using aml::concat;
using aml::device;
using aml::eisa_id;
using aml::integer;
using aml::io;
using aml::irq_no_flags;
using aml::name;
using aml::package;
using aml::resource_template;

Bytes isa_device(std::string_view path, std::string_view id, const Bytes& resources) {
  return device(path, concat({name("_HID", eisa_id(id)), name("_CRS", resources)}));
}

Bytes processors(unsigned count) {
  Bytes out;
  for (unsigned i = 0; i < count; ++i) {
    out = concat({out, device(fmt::format("CP{:02X}", i),
                              concat({name("_HID", aml::string("ACPI0007")), name("_UID", integer(i))}))});
  }
  return out;
}

Bytes serial_ports() {
  Bytes out;
  for (unsigned i = 0; i < layout::kSerial.size(); ++i) {
    const layout::SerialPort& port = layout::kSerial[i];
    out = concat({out, device(fmt::format("COM{}", i + 1),
                              concat({name("_HID", eisa_id("PNP0501")), name("_UID", integer(i + 1)),
                                      name("_DDN", aml::string(fmt::format("COM{}", i + 1))),
                                      name("_CRS", resource_template({io(port.base, 8), irq_no_flags(port.irq)}))}))});
  }
  return out;
}

Bytes isa_devices() {
  constexpr unsigned kCascadeDmaChannel = 4;
  return concat({
      isa_device("PIC", "PNP0000",
                 resource_template({io(layout::kPic1, 2), io(layout::kPic2, 2), io(layout::kElcr, 2),
                                    irq_no_flags(layout::kCascadeIrq)})),
      isa_device("DMAC", "PNP0200",
                 resource_template({io(layout::kDma1, 16), io(layout::kDmaPages, 16), io(layout::kDma2, 32),
                                    aml::dma(kCascadeDmaChannel)})),
      isa_device("TIMR", "PNP0100", resource_template({io(layout::kPit, 4), irq_no_flags(layout::kTimerIrq)})),
      isa_device("SPKR", "PNP0800", resource_template({io(layout::kPort61, 1)})),
      isa_device("RTC", "PNP0B00", resource_template({io(layout::kRtcIndex, 2), irq_no_flags(layout::kRtcIrq)})),
      isa_device("KBD", "PNP0303",
                 resource_template({io(layout::kKeyboardData, 1), io(layout::kKeyboardCommand, 1),
                                    irq_no_flags(layout::kKeyboardIrq)})),
      isa_device("MOU", "PNP0F13", resource_template({irq_no_flags(layout::kMouseIrq)})),
      isa_device("HPET", "PNP0103",
                 resource_template({aml::memory32_fixed(static_cast<std::uint32_t>(layout::kHpetBase),
                                                        static_cast<std::uint32_t>(layout::kHpetBytes), false)})),
      // Ports that belong to the board: nobody else may be given them.
      isa_device("SYSR", "PNP0C02",
                 resource_template({io(layout::kPort92, 1), io(layout::kDebugConsole, 1), io(layout::kDebugExit, 4),
                                    io(layout::kFirmwareDebugConsole, 1),
                                    io(layout::kPmBase, layout::kPmEnd - layout::kPmBase)})),
      // What QEMU's specification of pvpanic names it, and operating systems know it by.
      device("PEVT", concat({name("_HID", aml::string("QEMU0001")),
                             name("_CRS", resource_template({io(layout::kPvPanic, 1)}))})),
      serial_ports(),
  });
}

/// Virtual Machine Generation ID (Microsoft, 2012): where the identifier is, and the event that says it has changed.
Bytes vm_generation_id() {
  return device(
      "VGEN",
      concat({name("_HID", aml::string("DOPL0001")), name("_CID", aml::string("VM_Gen_Counter")),
              name("_DDN", aml::string("VM_Gen_Counter")),
              name("ADDR", package({integer(layout::kVmGenId & 0xFFFF'FFFF), integer(layout::kVmGenId >> 32)}))}));
}

Bytes general_purpose_events() {
  constexpr std::uint64_t kGenerationChanged = 0x80;
  return aml::scope("\\_GPE", aml::method(fmt::format("_E{:02X}", layout::kVmGenIdGpe),
                                          aml::notify("\\_SB.VGEN", kGenerationChanged)));
}

Bytes pci_routing() {
  std::vector<Bytes> table;
  for (std::uint64_t slot = 0; slot < 32; ++slot) {
    for (std::uint64_t pin = 0; pin < 4; ++pin) {
      const std::uint64_t gsi = layout::kFirstPciGsi + (slot + pin) % layout::kPciGsis;
      table.push_back(package({integer(slot << 16 | 0xFFFF), integer(pin), integer(0), integer(gsi)}));
    }
  }
  return package(table);
}

/// Without extended configuration space this is plain PCI; with it a PCI Express bridge, which negotiates by _OSC.
/// There is no bus but 0.
Bytes pci_host_bridge(const AcpiConfig& config, std::uint64_t ram_end) {
  const std::uint64_t high_start = layout::pci_high_window(ram_end);
  const Bytes terms = concat({
      name("_HID", eisa_id(config.pci_ecam ? "PNP0A08" : "PNP0A03")),
      name("_CID", eisa_id("PNP0A03")),
      name("_UID", integer(0)),
      name("_BBN", integer(0)),
      name("_SEG", integer(0)),
      name("_CRS", resource_template({
                       aml::word_bus_number(0, 0),
                       io(layout::kPciAddress, 8),
                       aml::word_io(static_cast<std::uint16_t>(layout::kPciIoStart),
                                    static_cast<std::uint16_t>(layout::kPciIoEnd - 1)),
                       aml::dword_memory(static_cast<std::uint32_t>(layout::kPciWindowStart),
                                         static_cast<std::uint32_t>(layout::kPciWindowEnd - 1)),
                       aml::qword_memory(high_start, high_start + layout::kPciHighWindowBytes - 1),
                   })),
      name("_PRT", pci_routing()),
  });
  if (!config.pci_ecam) return device("PCI0", terms);
  // What a PCI Express bridge has to offer: control of the capability structure.
  constexpr std::uint32_t kCapabilityControl = 1 << 4;
  const Bytes out = device("PCI0", concat({terms, aml::osc_granting(kCapabilityControl)}));
  return concat({out, isa_device("ECAM", "PNP0C02",
                                 resource_template(
                                     {aml::memory32_fixed(static_cast<std::uint32_t>(layout::kPciEcamBase),
                                                          static_cast<std::uint32_t>(layout::kPciEcamBytes), true)}))});
}

/// SLP_TYPa, SLP_TYPb and two reserved elements (ACPI 6.5, 7.4.2).
Bytes soft_off() {
  const Bytes type = integer(layout::kSleepTypeS5);
  return name("\\_S5", package({type, type, integer(0), integer(0)}));
}

}  // namespace

std::vector<std::uint8_t> make_dsdt(const AcpiConfig& config, std::uint64_t ram_end) {
  Bytes board = concat({processors(config.cpus), isa_devices(), vm_generation_id()});
  if (config.pci) board = concat({board, pci_host_bridge(config, ram_end)});
  // Revision 2: integers have 64 bits.
  Table dsdt("DSDT", 2);
  dsdt.add_bytes(aml::scope("\\_SB", board)).add_bytes(general_purpose_events()).add_bytes(soft_off());
  return dsdt.finish();
}

}  // namespace doppel::boot::acpi
