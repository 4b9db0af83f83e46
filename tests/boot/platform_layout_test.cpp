#include "boot/platform_layout.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace doppel::boot::layout {
namespace {

struct Range {
  std::uint64_t start, end;
  const char* what;
};

void expect_apart(const std::vector<Range>& ranges) {
  for (const Range& a : ranges) {
    EXPECT_LT(a.start, a.end) << a.what;
    for (const Range& b : ranges) {
      if (&a != &b) {
        EXPECT_FALSE(a.start < b.end && b.start < a.end) << a.what << " and " << b.what;
      }
    }
  }
}

TEST(PlatformLayout, PlacesInLowMemoryDoNotOverlap) {
  expect_apart({{0, 0x400, "interrupt vectors"},
                {kBiosDataArea, kBiosDataArea + 0x100, "BIOS data area"},
                {kBootGdt, kBootGdt + 0x100, "GDT"},
                {kStartInfo, kStartInfoEnd, "start info"},
                {kZeroPage, kZeroPage + 0x1000, "zero page"},
                {kSetupData, kSetupData + 0x1000, "setup data"},
                {kPageTables, kPageTablesEnd, "page tables"},
                {kPageTablesEnd, kBootStackTop, "stack"},
                {kCommandLine, kCommandLineEnd, "command line"},
                {kEbda, kEbdaEnd, "EBDA"},
                {kAcpiTables, kAcpiTablesEnd, "ACPI"},
                {kVmGenId, kVmGenId + 0x1000, "VM generation ID"},
                {kSmbios, kSmbiosEnd, "SMBIOS"}});
  for (const std::uint64_t address : {kAcpiTables, kVmGenId, kSmbios, kSmbiosEnd - 1}) {
    EXPECT_TRUE(address >= kBiosArea && address < kBiosAreaEnd) << std::hex << address;
  }
}

TEST(PlatformLayout, MmioLiesInThePciHoleAndApart) {
  const std::vector<Range> mmio{{kIoApicBase, kIoApicBase + 0x1000, "IOAPIC"},
                                {kHpetBase, kHpetBase + kHpetBytes, "HPET"},
                                {kLocalApicBase, kLocalApicBase + 0x1000, "local APIC"},
                                {kPciEcamBase, kPciEcamBase + kPciEcamBytes, "ECAM"},
                                {kPciWindowStart, kPciWindowEnd, "PCI window"}};
  expect_apart(mmio);
  for (const Range& range : mmio) {
    EXPECT_GE(range.start, memory::kPciHoleStart) << range.what;
    EXPECT_LE(range.end, memory::kPciHoleEnd) << range.what;
  }
}

TEST(PlatformLayout, PortsDoNotOverlap) {
  std::vector<Range> ports{{kPic1, kPic1 + 2U, "PIC 1"},
                           {kPit, kPit + 4U, "PIT"},
                           {kKeyboardData, kKeyboardData + 1U, "keyboard data"},
                           {kPort61, kPort61 + 1U, "port 61h"},
                           {kKeyboardCommand, kKeyboardCommand + 1U, "keyboard command"},
                           {kRtcIndex, kRtcIndex + 2U, "RTC"},
                           {kDma1, kDma1 + 16U, "DMA 1"},
                           {kDma2, kDma2 + 32U, "DMA 2"},
                           {kDmaPages, kDmaPages + 16U, "DMA pages"},
                           {kPort92, kPort92 + 1U, "port 92h"},
                           {kPic2, kPic2 + 2U, "PIC 2"},
                           {kDebugConsole, kDebugConsole + 1U, "debug console"},
                           {kDebugExit, kDebugExit + 4U, "debug exit"},
                           {kElcr, kElcr + 2U, "ELCR"},
                           {kFirmwareDebugConsole, kFirmwareDebugConsole + 1U, "firmware debug console"},
                           {kPm1aEvent, kPm1aEvent + kPm1aEventBytes, "PM1a event"},
                           {kPm1aControl, kPm1aControl + kPm1aControlBytes, "PM1a control"},
                           {kPmTimer, kPmTimer + kPmTimerBytes, "PM timer"},
                           {kGpe0, kGpe0 + kGpe0Bytes, "GPE0"},
                           {kPciAddress, kPciAddress + 1U, "PCI address"},
                           {kResetControl, kResetControl + 1U, "reset control"},
                           {kPciData, kPciData + 4U, "PCI data"}};
  for (const SerialPort& port : kSerial) ports.push_back({port.base, port.base + 8U, "serial"});
  expect_apart(ports);
}

TEST(PlatformLayout, NoTwoDevicesShareAnIsaInterrupt) {
  std::multiset<unsigned> irqs{kTimerIrq, kKeyboardIrq, kCascadeIrq, kRtcIrq, kSciIrq, kMouseIrq};
  for (const SerialPort& port : kSerial) irqs.insert(port.irq);
  for (const unsigned irq : irqs) {
    EXPECT_EQ(irqs.count(irq), 1U) << irq;
    EXPECT_LT(irq, 16U);
  }
  EXPECT_EQ(kFirstPciGsi + kPciGsis, kIoApicPins);
}

}  // namespace
}  // namespace doppel::boot::layout
