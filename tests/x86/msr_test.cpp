#include "x86/msr.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "state/snapshot_io.h"
#include "x86/fake_platform.h"
#include "x86/msr_numbers.h"

namespace doppel::x86 {
namespace {

using Feature = CpuidModel::Feature;

class MsrTest : public test::CpuTest {
 protected:
  CpuState& state = cpu.state;
};

TEST_F(MsrTest, UnknownRegistersFault) {
  for (const std::uint32_t number : {0x2U, 0x1FFU, 0x210U, 0x276U, 0x2A0U, 0x400U, 0xDA0U, 0x4000'0000U, 0x4B56'4D02U,
                                     0x4B56'4D03U, 0xC000'0104U, 0xC001'0111U, 0xFFFF'FFFFU}) {
    EXPECT_FAULT_CODE(vector::kGp, 0, read_msr(cpu, number)) << std::hex << number;
    EXPECT_FAULT_CODE(vector::kGp, 0, write_msr(cpu, number, 0)) << std::hex << number;
  }
}

TEST_F(MsrTest, PlainRegistersKeepWhatIsWritten) {
  for (const std::uint32_t number :
       {msr::kStar, msr::kLstar, msr::kCstar, msr::kFmask, msr::kFsBase, msr::kGsBase, msr::kKernelGsBase,
        msr::kSysenterCs, msr::kSysenterEsp, msr::kSysenterEip, msr::kTscAux, msr::kMiscEnable}) {
    write_msr(cpu, number, 0x1234'5678);
    EXPECT_EQ(read_msr(cpu, number), 0x1234'5678U) << std::hex << number;
  }
  EXPECT_EQ(state.seg(SegReg::Fs).base, 0x1234'5678U);
  EXPECT_EQ(state.sfmask, 0x1234'5678U);
}

TEST_F(MsrTest, AddressesMustBeCanonical) {
  for (const std::uint32_t number : {msr::kLstar, msr::kCstar, msr::kFsBase, msr::kGsBase, msr::kKernelGsBase,
                                     msr::kSysenterEsp, msr::kSysenterEip}) {
    write_msr(cpu, number, 0xFFFF'8000'0000'0000);
    EXPECT_FAULT_CODE(vector::kGp, 0, write_msr(cpu, number, 0x8000'0000'0000)) << std::hex << number;
    EXPECT_EQ(read_msr(cpu, number), 0xFFFF'8000'0000'0000U);
  }
}

TEST_F(MsrTest, NarrowRegistersRefuseUpperHalves) {
  EXPECT_FAULT_CODE(vector::kGp, 0, write_msr(cpu, msr::kTscAux, bit(32)));
  EXPECT_FAULT_CODE(vector::kGp, 0, write_msr(cpu, msr::kFmask, bit(32)));
}

TEST_F(MsrTest, EferKeepsItsRules) {
  write_msr(cpu, msr::kEfer, efer::kSce | efer::kNxe);
  EXPECT_EQ(read_msr(cpu, msr::kEfer), efer::kSce | efer::kNxe);
  EXPECT_FAULT_CODE(vector::kGp, 0, write_msr(cpu, msr::kEfer, bit(1)));
}

TEST_F(MsrTest, PatTakesMemoryTypesOnly) {
  for (std::uint64_t type = 0; type < 256; ++type) {
    const bool known = type == 0 || type == 1 || (type >= 4 && type <= 7);
    for (unsigned slot = 0; slot < 8; ++slot) {
      EXPECT_FAULT(known ? kNoFault : vector::kGp, write_msr(cpu, msr::kPat, type << (8 * slot))) << type;
    }
  }
}

TEST_F(MsrTest, ApicRegistersAreTheLocalApics) {
  io.apic_msrs = {{msr::kApicBase, 0xFEE0'0900}, {msr::kTscDeadline, 0}, {0x808, 0}};
  EXPECT_EQ(read_msr(cpu, msr::kApicBase), 0xFEE0'0900U);
  write_msr(cpu, msr::kTscDeadline, 77);
  write_msr(cpu, 0x808, 0x20);
  EXPECT_EQ(io.apic_msrs[msr::kTscDeadline], 77U);
  EXPECT_EQ(io.apic_msrs[0x808], 0x20U);
  EXPECT_FAULT_CODE(vector::kGp, 0, read_msr(cpu, 0x8FF));
  EXPECT_FAULT_CODE(vector::kGp, 0, write_msr(cpu, 0x8FF, 0));
}

// The clock stands still until the machine starts it.
TEST_F(MsrTest, TheTscAndItsAdjustmentMoveTogether) {
  const std::uint64_t start = read_msr(cpu, msr::kTimeStampCounter);
  write_msr(cpu, msr::kTimeStampCounter, start + 1000);
  EXPECT_EQ(read_msr(cpu, msr::kTimeStampCounter), start + 1000);
  EXPECT_EQ(read_msr(cpu, msr::kTscAdjust), 1000U);
  write_msr(cpu, msr::kTscAdjust, 5);
  EXPECT_EQ(read_msr(cpu, msr::kTimeStampCounter), start + 5);
  EXPECT_EQ(read_msr(cpu, msr::kTscAdjust), 5U);
  EXPECT_EQ(state.tsc_offset, 5U);
}

TEST_F(MsrTest, SpeculationControlsExistWhereCpuidSaysSo) {
  const bool ibpb = cpuid.has(Feature::Ibpb), spec_ctrl = cpuid.has(Feature::SpecCtrl),
             capabilities = cpuid.has(Feature::ArchCapabilities);
  EXPECT_FAULT(ibpb ? kNoFault : vector::kGp, write_msr(cpu, msr::kPredCmd, 1));
  EXPECT_FAULT(vector::kGp, write_msr(cpu, msr::kPredCmd, 2));
  EXPECT_FAULT(vector::kGp, read_msr(cpu, msr::kPredCmd)) << "write-only";
  EXPECT_FAULT(spec_ctrl ? kNoFault : vector::kGp, write_msr(cpu, msr::kSpecCtrl, 1));
  EXPECT_FAULT(capabilities ? kNoFault : vector::kGp, read_msr(cpu, msr::kArchCapabilities));
}

TEST_F(MsrTest, LinuxFindsItsVendorsRegisters) {
  if (cpuid.vendor() == CpuidModel::Vendor::Amd) {
    EXPECT_EQ(read_msr(cpu, msr::kHwcr) >> 24 & 1, 1U) << "or Linux says that the TSC does not count at P0";
    EXPECT_EQ(read_msr(cpu, msr::kDeCfg) >> 1 & 1, 1U);
    EXPECT_EQ(read_msr(cpu, msr::kSysCfg), 0U);
    EXPECT_FAULT(kNoFault, write_msr(cpu, msr::kHwcr, bit(24)));
  } else {
    EXPECT_EQ(read_msr(cpu, msr::kFeatureControl), 1U);
  }
  EXPECT_FAULT(kNoFault, write_msr(cpu, msr::kBiosSignId, 0));
  EXPECT_NE(read_msr(cpu, msr::kBiosSignId), 0U);
  EXPECT_EQ(read_msr(cpu, msr::kPlatformId), 0U);
  EXPECT_EQ(read_msr(cpu, msr::kMcgCap), 0U);
  EXPECT_FAULT(vector::kGp, write_msr(cpu, msr::kMcgCap, 0));
  EXPECT_FAULT(vector::kGp, write_msr(cpu, msr::kMcgStatus, 1));
}

TEST_F(MsrTest, KvmclockRegistersHaveTwoNumbers) {
  write_msr(cpu, msr::kKvmSystemTimeNew, 0x3001);
  EXPECT_EQ(read_msr(cpu, msr::kKvmSystemTime), 0x3001U);
  write_msr(cpu, msr::kKvmWallClock, 0x3100);
  EXPECT_EQ(read_msr(cpu, msr::kKvmWallClockNew), 0x3100U);
}

TEST_F(MsrTest, EveryRegisterIsWhatItWasAfterARestore) {
  constexpr std::pair<std::uint32_t, std::uint32_t> kRanges[] = {{0, msr::kTscDeadline - 1},
                                                                 {msr::kX2apicLast + 1, 0x1000},
                                                                 {0x4B56'4D00, 0x4B56'4DFF},
                                                                 {0xC000'0080, 0xC000'01FF},
                                                                 {0xC001'0000, 0xC001'1FFF}};
  std::map<std::uint32_t, std::uint64_t> before;
  unsigned changed = 0;
  for (const auto& [first, last] : kRanges) {
    for (std::uint32_t number = first; number <= last; ++number) {
      // The last of these that a register takes.
      for (const std::uint64_t value :
           {std::uint64_t{0x6}, std::uint64_t{0x1001}, std::uint64_t{0x0606'0000} + 0x1000 * (number & 0xF)}) {
        if (number != msr::kApicBase) fault_of([&] { write_msr(cpu, number, value); });
      }
    }
  }
  for (const auto& [first, last] : kRanges) {
    for (std::uint32_t number = first; number <= last; ++number) {
      fault_of([&] { before[number] = read_msr(cpu, number); });
    }
  }
  const auto saved = state::save([this](state::Visitor& v) { cpu.state.describe(v); });
  Attention other_attention;
  // Nobody has asked it for its CPUID yet.
  Cpu other{CpuPorts{memory, io, clock, cpuid, other_attention}};
  for (const auto& [number, value] : before) {
    fault_of([&, &number = number, &value = value] { changed += read_msr(other, number) != value ? 1 : 0; });
  }
  EXPECT_GT(changed, 30U) << "the test has changed nothing";
  ASSERT_TRUE(state::load(saved, [&other](state::Visitor& v) { other.state.describe(v); }));
  for (const auto& [number, value] : before) EXPECT_EQ(read_msr(other, number), value) << std::hex << number;
}

TEST_F(MsrTest, EachProcessorsTscIsWhereItWasAfterARestore) {
  write_msr(cpu, msr::kTimeStampCounter, 1'000'000);
  const auto saved = state::save([this](state::Visitor& v) { cpu.state.describe(v); });
  Attention other_attention;
  Cpu other{CpuPorts{memory, io, clock, cpuid, other_attention}};
  ASSERT_TRUE(state::load(saved, [&other](state::Visitor& v) { other.state.describe(v); }));
  EXPECT_EQ(read_msr(other, msr::kTimeStampCounter), read_msr(cpu, msr::kTimeStampCounter));
}

}  // namespace
}  // namespace doppel::x86
