#include "boot/entry_state.h"

#include <gtest/gtest.h>

#include "boot/kernel_images.h"
#include "boot/platform_layout.h"

namespace doppel::boot {
namespace {

using x86::SegReg;

/// What a processor would load from the descriptor that the selector names.
void expect_descriptor_matches(const memory::GuestMemory& memory, const x86::CpuState& cpu,
                               const x86::Segment& segment) {
  ASSERT_LE(segment.selector + 7U, cpu.gdtr.limit);
  const auto raw = test::get<std::uint64_t>(memory, cpu.gdtr.base + segment.selector);
  const std::uint64_t base = bits(raw, 39, 16) | bits(raw, 63, 56) << 24;
  const std::uint64_t limit = bits(raw, 15, 0) | bits(raw, 51, 48) << 16;
  EXPECT_EQ(base, segment.base);
  EXPECT_EQ((limit << 12) | 0xFFF, segment.limit);
  EXPECT_EQ(bits(raw, 47, 40) | bits(raw, 55, 52) << 12, segment.attributes);
}

TEST(ProtectedModeEntry, IsFlat32BitWithoutPaging) {
  const auto memory = test::make_memory(16);
  const x86::CpuState cpu = protected_mode_entry(*memory, 0x10'0000);
  EXPECT_EQ(cpu.rip, 0x10'0000U);
  EXPECT_EQ(cpu.cr0, x86::cr0::kPe | x86::cr0::kEt);
  EXPECT_EQ(cpu.cr4, 0U);
  EXPECT_EQ(cpu.efer, 0U);
  EXPECT_EQ(cpu.rflags(), x86::rflags::kReserved1);
  EXPECT_EQ(cpu.seg(SegReg::Cs).selector, 0x10);
  EXPECT_TRUE(cpu.seg(SegReg::Cs).is_code());
  EXPECT_TRUE(cpu.seg(SegReg::Cs).default_32());
  EXPECT_EQ(cpu.cpl(), 0U);
  for (const x86::Segment& segment : cpu.segment) expect_descriptor_matches(*memory, cpu, segment);
  for (const SegReg reg : {SegReg::Ds, SegReg::Es, SegReg::Ss, SegReg::Fs, SegReg::Gs}) {
    EXPECT_EQ(cpu.seg(reg).selector, 0x18);
    EXPECT_FALSE(cpu.seg(reg).is_code());
  }
  EXPECT_EQ(cpu.tr.type(), 0xBU) << "a busy TSS, which VMX insists on";
  EXPECT_EQ(cpu.activity, x86::Activity::Running);
}

TEST(LongModeEntry, Maps4GibOneToOne) {
  const auto memory = test::make_memory(16);
  const x86::CpuState cpu = long_mode_entry(*memory, 0x100'0200);
  EXPECT_EQ(cpu.rip, 0x100'0200U);
  EXPECT_TRUE(cpu.code_64());
  EXPECT_EQ(cpu.cr0, x86::cr0::kPe | x86::cr0::kEt | x86::cr0::kPg);
  EXPECT_EQ(cpu.cr4, x86::cr4::kPae);
  EXPECT_EQ(cpu.efer, x86::efer::kLme | x86::efer::kLma);
  for (const x86::Segment& segment : cpu.segment) expect_descriptor_matches(*memory, cpu, segment);
  for (std::uint64_t address = 0; address < std::uint64_t{4} << 30; address += 0x20'0000) {
    std::uint64_t table = cpu.cr3;
    for (const unsigned shift : {39U, 30U, 21U}) {
      const auto entry = test::get<std::uint64_t>(*memory, table + bits(address, shift + 8, shift) * 8);
      ASSERT_EQ(entry & 3, 3U) << "present and writable at " << std::hex << address;
      ASSERT_EQ((entry >> 7 & 1) != 0, shift == 21);
      table = entry & ~std::uint64_t{0xFFF};
    }
    ASSERT_EQ(table, address);
  }
  EXPECT_EQ(test::get<std::uint64_t>(*memory, cpu.cr3 + 8), 0U) << "nothing beyond 512 GiB";
}

TEST(FirmwareDefaults, LeaveMemoryWriteBack) {
  x86::CpuState cpu;
  apply_firmware_defaults(cpu);
  EXPECT_EQ(cpu.mtrr_def_type, 0x806U);
}

}  // namespace
}  // namespace doppel::boot
