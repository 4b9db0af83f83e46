#include "x86/mtrr.h"

#include <gtest/gtest.h>

#include <vector>

#include "x86/fake_platform.h"
#include "x86/msr.h"
#include "x86/msr_numbers.h"

namespace doppel::x86 {
namespace {

class MtrrTest : public test::CpuTest {
 protected:
  static std::vector<std::uint32_t> fixed_ranges() {
    std::vector<std::uint32_t> numbers{0x250, 0x258, 0x259};
    for (std::uint32_t number = 0x268; number <= 0x26F; ++number) numbers.push_back(number);
    return numbers;
  }
};

TEST_F(MtrrTest, TheCapabilitiesMatchTheRegisters) {
  EXPECT_EQ(read_msr(cpu, msr::kMtrrCap), 0x508U);
  EXPECT_FAULT_CODE(vector::kGp, 0, write_msr(cpu, msr::kMtrrCap, 0));
  EXPECT_FAULT(kNoFault, read_msr(cpu, 0x20F));
  EXPECT_FAULT(vector::kGp, read_msr(cpu, 0x210));
}

TEST_F(MtrrTest, FixedRangesAreSeparateRegisters) {
  const std::uint64_t kWriteBack = 0x0606'0606'0606'0606;
  for (const std::uint32_t number : fixed_ranges()) EXPECT_EQ(read_msr(cpu, number), 0U);
  for (const std::uint32_t number : fixed_ranges()) {
    write_msr(cpu, number, kWriteBack);
    std::uint64_t set = 0;
    for (const std::uint32_t other : fixed_ranges()) set += read_msr(cpu, other) == kWriteBack ? 1 : 0;
    EXPECT_EQ(set, 1U);
    write_msr(cpu, number, 0);
  }
  EXPECT_FAULT_CODE(vector::kGp, 0, write_msr(cpu, 0x250, 0x0200));
  EXPECT_FAULT_CODE(vector::kGp, 0, write_msr(cpu, 0x250, 0x0700)) << "UC- is PAT's alone";
}

TEST_F(MtrrTest, VariableRangesCheckTypeAndWidth) {
  write_msr(cpu, 0x200, 0x8000'0006);
  EXPECT_EQ(read_msr(cpu, 0x200), 0x8000'0006U);
  write_msr(cpu, 0x201, 0x8000'0800);
  EXPECT_EQ(read_msr(cpu, 0x201), 0x8000'0800U);
  EXPECT_FAULT_CODE(vector::kGp, 0, write_msr(cpu, 0x200, 0x8000'0002));
  EXPECT_FAULT_CODE(vector::kGp, 0, write_msr(cpu, 0x200, 0x8000'0106));
  EXPECT_FAULT_CODE(vector::kGp, 0, write_msr(cpu, 0x201, 0x8000'0C00));
  const std::uint64_t beyond = bit(cpuid.physical_address_bits());
  EXPECT_FAULT_CODE(vector::kGp, 0, write_msr(cpu, 0x200, beyond | 6));
  EXPECT_FAULT_CODE(vector::kGp, 0, write_msr(cpu, 0x201, beyond | 0x800));
}

TEST_F(MtrrTest, TheDefaultTypeIsChecked) {
  EXPECT_EQ(read_msr(cpu, msr::kMtrrDefType), 0xC06U) << "enabled and write-back, or Linux drops RAM";
  write_msr(cpu, msr::kMtrrDefType, 0x800);
  EXPECT_EQ(read_msr(cpu, msr::kMtrrDefType), 0x800U);
  EXPECT_FAULT_CODE(vector::kGp, 0, write_msr(cpu, msr::kMtrrDefType, 0x802));
  EXPECT_FAULT_CODE(vector::kGp, 0, write_msr(cpu, msr::kMtrrDefType, 0x1006));
}

}  // namespace
}  // namespace doppel::x86
