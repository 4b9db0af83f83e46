#pragma once

#include <array>
#include <cstdint>

#include "base/bits.h"
#include "memory/guest_memory.h"

/// Where everything of the platform is: the one place for fixed ports, MMIO bases, interrupt numbers and the addresses
/// of what the loaders put into RAM. The machine wires its devices by this table, and ACPI, SMBIOS and the E820 map
/// tell the guest the same.
namespace doppel::boot::layout {

using memory::GuestPhysical;
using Port = std::uint16_t;

inline constexpr unsigned kMaxCpus = 16;

// --- Ports ---

inline constexpr Port kDma1 = 0x00, kDmaPages = 0x80, kPostCode = 0x80, kDma2 = 0xC0, kPic1 = 0x20, kPit = 0x40,
                      kKeyboardData = 0x60, kPort61 = 0x61, kKeyboardCommand = 0x64, kRtcIndex = 0x70, kRtcData = 0x71,
                      kPort92 = 0x92, kPic2 = 0xA0, kElcr = 0x4D0;
inline constexpr Port kDebugConsole = 0xE9, kFirmwareDebugConsole = 0x402, kDebugExit = 0xF4, kPvPanic = 0x505;
inline constexpr Port kPciAddress = 0xCF8, kResetControl = 0xCF9, kPciData = 0xCFC;
/// Written to kResetControl: system reset, hard (bits 1 and 2). The FADT names it as the reset value.
inline constexpr std::uint8_t kResetValue = 0x06;

/// ACPI fixed hardware (ACPI 6.5, 4.8.3): the PM1a event block (status, enable: 2 bytes each), the PM1a control
/// register (2 bytes), the PM timer (4 bytes), general-purpose event block 0 (status and enable, kGpe0Bytes / 2 each).
/// There is no SMI command port: the machine is in ACPI mode from the start, SCI_EN reads as set.
inline constexpr Port kPmBase = 0x600, kPm1aEvent = kPmBase, kPm1aControl = kPmBase + 4, kPmTimer = kPmBase + 8,
                      kGpe0 = 0x620, kPmEnd = 0x640;
inline constexpr unsigned kPm1aEventBytes = 4, kPm1aControlBytes = 2, kPmTimerBytes = 4, kGpe0Bytes = 4;
/// The timer counts 32 bits (FADT flag TMR_VAL_EXT).
inline constexpr unsigned kPmTimerBits = 32;
/// SLP_TYPa for the soft-off state \_S5.
inline constexpr std::uint8_t kSleepTypeS5 = 5;
/// The bit in GPE0 that announces a new VM generation.
inline constexpr unsigned kVmGenIdGpe = 0;

/// A 16550 UART: 8 ports from `base`.
struct SerialPort {
  Port base;
  unsigned irq;
};
/// COM1 to COM4. The last two do not share edge-triggered lines with the first two, as they do on old PCs.
inline constexpr std::array<SerialPort, 4> kSerial{{{0x3F8, 4}, {0x2F8, 3}, {0x3E8, 5}, {0x2E8, 7}}};

// --- ISA interrupts ---

inline constexpr unsigned kTimerIrq = 0, kKeyboardIrq = 1, kCascadeIrq = 2, kRtcIrq = 8, kSciIrq = 9, kMouseIrq = 12;
/// The IOAPIC pin of IRQ 0; the other ISA interrupts are on the pin of their number.
inline constexpr unsigned kTimerGsi = 2;
/// Pins 16 to 23 carry PCI's INTx, level-triggered.
inline constexpr unsigned kIoApicPins = 24, kFirstPciGsi = 16, kPciGsis = 8;
/// The SCI is level-triggered, active high.

// --- MMIO ---

inline constexpr GuestPhysical kIoApicBase = 0xFEC0'0000, kHpetBase = 0xFED0'0000, kLocalApicBase = 0xFEE0'0000;
inline constexpr std::uint8_t kIoApicId = 0;
inline constexpr std::uint64_t kHpetBytes = 0x400;
/// The low half of the HPET's General Capabilities: revision 1, 3 timers, 64 bits, legacy replacement, vendor 8086h.
inline constexpr std::uint32_t kHpetEventTimerBlockId = 0x8086'A201;
/// What PCI devices may be given, and the extended configuration space (ECAM) of the one bus that there is.
inline constexpr GuestPhysical kPciEcamBase = 0xE000'0000, kPciEcamBytes = 0x10'0000;
inline constexpr std::uint64_t kPciIoStart = 0xC000, kPciIoEnd = 0x1'0000;
inline constexpr GuestPhysical kPciWindowStart = memory::kPciHoleStart, kPciWindowEnd = kPciEcamBase;
inline constexpr GuestPhysical kPciHighWindowBytes = std::uint64_t{1} << 36;
/// Where the window above RAM begins.
constexpr GuestPhysical pci_high_window(GuestPhysical ram_end) {
  const GuestPhysical high = align_up(ram_end, std::uint64_t{1} << 30);
  return high < memory::kPciHoleEnd ? memory::kPciHoleEnd : high;
}

// --- RAM below 1 MiB, as the BIOS of a PC leaves it ---

inline constexpr GuestPhysical kBiosDataArea = 0x400;
inline constexpr GuestPhysical kEbda = 0x9'FC00, kEbdaEnd = 0xA'0000;
/// Reserved for the guest from here to 1 MiB: the tables below.
inline constexpr GuestPhysical kBiosArea = 0xE'0000, kBiosAreaEnd = 0x10'0000;
inline constexpr GuestPhysical kAcpiTables = 0xE'0000, kAcpiTablesEnd = 0xE'F000;
/// The 16 bytes of the VM generation identifier, in a page of their own.
inline constexpr GuestPhysical kVmGenId = 0xE'F000;
inline constexpr GuestPhysical kSmbios = 0xF'0000, kSmbiosEnd = 0xF'8000;

// --- What loaders put there for the kernel's first steps; ordinary RAM, the kernel's to reuse ---

inline constexpr GuestPhysical kBootGdt = 0x1000;
inline constexpr GuestPhysical kStartInfo = 0x2000;  ///< PVH hvm_start_info or Multiboot information, with their lists
inline constexpr GuestPhysical kStartInfoEnd = 0x7000;
inline constexpr GuestPhysical kZeroPage = 0x7000;    ///< Linux boot_params
inline constexpr GuestPhysical kSetupData = 0x8000;   ///< Linux setup_data list
inline constexpr GuestPhysical kPageTables = 0x9000;  ///< identity map of the first 4 GiB: 6 pages
inline constexpr GuestPhysical kPageTablesEnd = 0xF000;
inline constexpr GuestPhysical kBootStackTop = 0x1'0000;
inline constexpr GuestPhysical kCommandLine = 0x2'0000, kCommandLineEnd = 0x3'0000;
inline constexpr GuestPhysical kHighMemory = 0x10'0000;

}  // namespace doppel::boot::layout
