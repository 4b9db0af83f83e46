#include "segmented_test.h"
#include "x86/transfer.h"

namespace doppel::x86::test {
namespace {

using namespace rflags;

/// A processor of either vendor with nothing but its name.
CpuidModel model_of(CpuidModel::Vendor vendor) {
  const bool amd = vendor == CpuidModel::Vendor::Amd;
  return {[amd](std::uint32_t leaf, std::uint32_t) {
            if (leaf != 0) return CpuidResult{};
            return amd ? CpuidResult{1, 0x6874'7541, 0x444D'4163, 0x6974'6E65}
                       : CpuidResult{1, 0x756E'6547, 0x6C65'746E, 0x4965'6E69};
          },
          1};
}

class Syscall : public SegmentedTest, public ::testing::WithParamInterface<CpuidModel::Vendor> {
 protected:
  Syscall() {
    cpuid = model_of(GetParam());
    state.star = 0x0033'0010'0000'4444;
    state.lstar = 0xFFFF'8000'0000'1000;
    state.cstar = 0xFFFF'8000'0000'2000;
    state.sfmask = kIf | kTf | kDf;
    state.sysenter_cs = 0x10;
    state.sysenter_eip = 0xFFFF'8000'1234'5678;
    state.sysenter_esp = 0xFFFF'8000'8765'4320;
  }
  bool amd() const { return GetParam() == CpuidModel::Vendor::Amd; }
  void expect_flat(SegReg reg, std::uint16_t expected, std::uint32_t attributes) const {
    const Segment& segment = state.seg(reg);
    EXPECT_EQ(segment.selector, expected);
    EXPECT_EQ(segment.base, 0U);
    EXPECT_EQ(segment.limit, 0xFFFF'FFFFU);
    EXPECT_EQ(segment.attributes, attributes);
  }
};

TEST_P(Syscall, EntersLevel0) {
  enter_long_mode(3);
  state.set_rflags(kIf | kTf | kZf | kRf);
  cpu.single_step = true;
  syscall(cpu);
  EXPECT_EQ(state.gpr[kRcx], 0x7000U);
  EXPECT_EQ(state.gpr[kR11], kIf | kTf | kZf | kReserved1);
  EXPECT_EQ(state.rip, state.lstar);
  EXPECT_EQ(state.rflags(), kZf | kReserved1);
  expect_flat(SegReg::Cs, 0x10, 0xA09B);
  expect_flat(SegReg::Ss, 0x18, 0xC093);
  EXPECT_EQ(state.cpl(), 0U);
  EXPECT_EQ(cpu.mmu.data_view(), View::Supervisor);
  EXPECT_FALSE(cpu.single_step);  // SFMASK has cleared TF
}

TEST_P(Syscall, ReturnsTo64BitCode) {
  enter_long_mode(0);
  state.gpr[kRcx] = 0x1234'5678'9ABC;
  state.gpr[kR11] = ~std::uint64_t{0};
  sysret(cpu, 8);
  EXPECT_EQ(state.rip, 0x1234'5678'9ABCU);
  expect_flat(SegReg::Cs, 0x43, 0xA0FB);
  expect_flat(SegReg::Ss, 0x3B, 0xC0F3);
  EXPECT_EQ(state.rflags(), 0x3C7FD7U);
  EXPECT_EQ(state.cpl(), 3U);
  EXPECT_EQ(cpu.mmu.data_view(), View::User);
  EXPECT_EQ(state.pending_debug, std::uint64_t{1} << 14);  // TF traps at once, stepped or not
}

TEST_P(Syscall, ReturnsToCompatibilityCode) {
  enter_long_mode(0);
  state.gpr[kRcx] = 0xFFFF'FFFF'1234'5678;
  state.gpr[kR11] = kIf;
  sysret(cpu, 4);
  EXPECT_EQ(state.rip, 0x1234'5678U);
  expect_flat(SegReg::Cs, 0x33, 0xC0FB);
  expect_flat(SegReg::Ss, 0x3B, 0xC0F3);
}

TEST_P(Syscall, NonCanonicalReturnAddressFaultsAtLevel0OnIntelOnly) {
  enter_long_mode(0);
  state.gpr[kRcx] = 0x8000'0000'0000;
  if (amd()) {
    sysret(cpu, 8);
    EXPECT_EQ(state.cpl(), 3U);
    EXPECT_EQ(state.rip, 0x8000'0000'0000U);
  } else {
    EXPECT_FAULT_CODE(vector::kGp, 0, sysret(cpu, 8));
    EXPECT_EQ(state.cpl(), 0U);
  }
}

TEST_P(Syscall, CompatibilityModeHasItOnAmdOnly) {
  enter_long_mode(3, true);
  if (amd()) {
    syscall(cpu);
    EXPECT_EQ(state.rip, state.cstar);
    EXPECT_TRUE(state.code_64());
    EXPECT_EQ(state.gpr[kRcx], 0x7000U);
  } else {
    EXPECT_FAULT(vector::kUd, syscall(cpu));
  }
}

TEST_P(Syscall, LegacyModeHasItOnAmdOnly) {
  enter_protected_mode(3);
  state.efer = efer::kSce;
  if (amd()) {
    syscall(cpu);
    EXPECT_EQ(state.rip, 0x4444U);
    EXPECT_FALSE(state.code_64());
    EXPECT_EQ(state.rflags() & kIf, 0U);
    EXPECT_EQ(state.cpl(), 0U);
  } else {
    EXPECT_FAULT(vector::kUd, syscall(cpu));
  }
}

TEST_P(Syscall, NeedsSystemCallEnableAndLevel0ToReturn) {
  enter_long_mode(3);
  EXPECT_FAULT_CODE(vector::kGp, 0, sysret(cpu, 8));
  state.efer &= ~efer::kSce;
  EXPECT_FAULT(vector::kUd, syscall(cpu));
  EXPECT_FAULT(vector::kUd, sysret(cpu, 8));
}

TEST_P(Syscall, SysenterInLegacyMode) {
  enter_protected_mode(3);
  state.set_rflags(kIf | kZf);
  sysenter(cpu);
  expect_flat(SegReg::Cs, 0x10, 0xC09B);
  expect_flat(SegReg::Ss, 0x18, 0xC093);
  EXPECT_EQ(state.rip, 0x1234'5678U);
  EXPECT_EQ(state.gpr[kRsp], 0x8765'4320U);
  EXPECT_EQ(state.rflags(), kZf | kReserved1);
  EXPECT_EQ(state.cpl(), 0U);

  state.gpr[kRdx] = 0x1111'0000'2222;
  state.gpr[kRcx] = 0x3333;
  sysexit(cpu, 4);
  expect_flat(SegReg::Cs, 0x23, 0xC0FB);
  expect_flat(SegReg::Ss, 0x2B, 0xC0F3);
  EXPECT_EQ(state.rip, 0x2222U);
  EXPECT_EQ(state.gpr[kRsp], 0x3333U);
  EXPECT_FAULT_CODE(vector::kGp, 0, sysexit(cpu, 4));
}

TEST_P(Syscall, SysenterLeavesVirtual8086Mode) {
  enter_virtual_8086_mode(0);
  sysenter(cpu);
  EXPECT_FALSE(state.virtual_8086());
  EXPECT_EQ(state.cpl(), 0U);
}

TEST_P(Syscall, SysenterNeedsACodeSelector) {
  enter_protected_mode(3);
  state.sysenter_cs = 3;
  EXPECT_FAULT_CODE(vector::kGp, 0, sysenter(cpu));
  state.sysenter_cs = 0x10;
  enter_real_mode();
  state.cr0 &= ~cr0::kPe;
  EXPECT_FAULT_CODE(vector::kGp, 0, sysenter(cpu));
}

TEST_P(Syscall, SysenterInLongModeIsIntelOnly) {
  enter_long_mode(3);
  if (amd()) {
    EXPECT_FAULT(vector::kUd, sysenter(cpu));
    EXPECT_FAULT_CODE(vector::kGp, 0, sysexit(cpu, 8)) << "privilege is checked first";
    enter_long_mode(0);
    EXPECT_FAULT(vector::kUd, sysexit(cpu, 8));
    return;
  }
  sysenter(cpu);
  expect_flat(SegReg::Cs, 0x10, 0xA09B);
  EXPECT_EQ(state.rip, state.sysenter_eip);
  EXPECT_EQ(state.gpr[kRsp], state.sysenter_esp);
  state.gpr[kRdx] = 0x8000'0000'0000;
  EXPECT_FAULT_CODE(vector::kGp, 0, sysexit(cpu, 8));
  state.gpr[kRdx] = 0x7000;
  sysexit(cpu, 8);
  expect_flat(SegReg::Cs, 0x33, 0xA0FB);
  expect_flat(SegReg::Ss, 0x3B, 0xC0F3);
}

INSTANTIATE_TEST_SUITE_P(Vendors, Syscall, ::testing::Values(CpuidModel::Vendor::Intel, CpuidModel::Vendor::Amd),
                         [](const auto& vendor) { return vendor.param == CpuidModel::Vendor::Amd ? "Amd" : "Intel"; });

}  // namespace
}  // namespace doppel::x86::test
