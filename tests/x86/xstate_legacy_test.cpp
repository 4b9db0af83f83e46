#include <gtest/gtest.h>

#include <vector>

#include "x86/fake_platform.h"
#include "x86/xstate.h"

namespace doppel::x86 {
namespace {

class XstateLegacyTest : public test::CpuTest {
 protected:
  static constexpr std::uint64_t kArea = 0x2000;

  void SetUp() override {
    cpu.state.cr0 |= cr0::kPe;
    FpuState& fpu = cpu.state.fpu;
    fpu.fcw = 0x0340;
    fpu.fsw = 0x3000;  // TOP 6
    fpu.ftw = 0xC1;    // R7, R6, R0 are in use: ST(1), ST(0), ST(2)
    fpu.fop = 0x5A5;
    fpu.fip = 0x0001'2345;
    fpu.fdp = 0x000A'BCDE;
    for (unsigned i = 0; i < 8; ++i) fpu.st[i] = {bit(63) + i, static_cast<std::uint16_t>(0x3FFF + i), {}};
    fpu.st[1] = {};                            // zero
    fpu.st[2] = {bit(62), 0x7FFF, {}};         // special
    fpu.st[0] = {bit(63) + 0xAB, 0xBFFF, {}};  // valid
  }
  std::uint32_t word32(unsigned index) { return peek_physical<std::uint32_t>(kArea + 4 * index); }
  std::uint32_t word16(unsigned index) { return peek_physical<std::uint16_t>(kArea + 2 * index); }
};

// R7 is ST(1): zero (1); R6 is ST(0): valid (0); R0 is ST(2): special (2); the rest is empty (3).
constexpr std::uint32_t kTags = 0b01'00'11'11'11'11'11'10;

// SDM vol. 1, figures 8-9 to 8-12.
TEST_F(XstateLegacyTest, TheEnvironmentIn32BitProtectedMode) {
  fnstenv(cpu, kArea, 4);
  EXPECT_EQ(word32(0), 0xFFFF'0340U);
  EXPECT_EQ(word32(1), 0xFFFF'3000U);
  EXPECT_EQ(word32(2), 0xFFFF'0000U | kTags);
  EXPECT_EQ(word32(3), 0x0001'2345U);
  EXPECT_EQ(word32(4), 0x05A5'0000U);
  EXPECT_EQ(word32(5), 0x000A'BCDEU);
  EXPECT_EQ(word32(6), 0xFFFF'0000U);
}

TEST_F(XstateLegacyTest, TheEnvironmentIn16BitProtectedMode) {
  fnstenv(cpu, kArea, 2);
  const std::vector<std::uint32_t> expected{0x0340, 0x3000, kTags, 0x2345, 0, 0xBCDE, 0};
  for (unsigned i = 0; i < 7; ++i) EXPECT_EQ(word16(i), expected[i]) << i;
  EXPECT_EQ(word16(7), 0U);
}

TEST_F(XstateLegacyTest, TheEnvironmentInRealMode) {
  cpu.state.cr0 &= ~cr0::kPe;
  fnstenv(cpu, kArea, 4);
  EXPECT_EQ(word32(3), 0xFFFF'2345U);
  EXPECT_EQ(word32(4), 0x0000'15A5U);
  EXPECT_EQ(word32(5), 0xFFFF'BCDEU);
  EXPECT_EQ(word32(6), 0x0000'A000U);
  fnstenv(cpu, kArea, 2);
  EXPECT_EQ(word16(3), 0x2345U);
  EXPECT_EQ(word16(4), 0x15A5U);
  EXPECT_EQ(word16(5), 0xBCDEU);
  EXPECT_EQ(word16(6), 0xA000U);
}

TEST_F(XstateLegacyTest, StoringMasksAllExceptions) {
  cpu.state.fpu.fsw = 0xB081;
  fnstenv(cpu, kArea, 4);
  EXPECT_EQ(word32(1) & 0xFFFF, 0xB081U);
  EXPECT_EQ(cpu.state.fpu.fcw, 0x037FU);
  EXPECT_EQ(cpu.state.fpu.fsw, 0x3001U) << "nothing unmasked is left to report";
}

TEST_F(XstateLegacyTest, LoadingAnEnvironmentMovesTopNotTheRegisters) {
  fnstenv(cpu, kArea, 4);
  const std::uint64_t physical6 = cpu.state.fpu.st[0].significand;
  poke_physical<std::uint16_t>(kArea + 4, 0x2800);  // TOP 5
  fldenv(cpu, kArea, 4);
  EXPECT_EQ(cpu.state.fpu.fsw, 0x2800U);
  EXPECT_EQ(cpu.state.fpu.st[1].significand, physical6);
  EXPECT_EQ(cpu.state.fpu.ftw, 0xC1U);
  EXPECT_EQ(cpu.state.fpu.fcw, 0x0340U);
  EXPECT_EQ(cpu.state.fpu.fop, 0x5A5U);
  EXPECT_EQ(cpu.state.fpu.fip, 0x0001'2345U);
}

TEST_F(XstateLegacyTest, FrstorBringsBackWhatFnsaveSaved) {
  for (const bool protected_mode : {true, false}) {
    cpu.state.cr0 = protected_mode ? cpu.state.cr0 | cr0::kPe : cpu.state.cr0 & ~cr0::kPe;
    SetUp();
    cpu.state.cr0 = protected_mode ? cpu.state.cr0 | cr0::kPe : cpu.state.cr0 & ~cr0::kPe;
    const FpuState before = cpu.state.fpu;
    fnsave(cpu, kArea, 4);
    EXPECT_EQ(cpu.state.fpu.fcw, 0x37FU);
    EXPECT_EQ(cpu.state.fpu.fsw, 0U);
    EXPECT_EQ(cpu.state.fpu.ftw, 0U);
    EXPECT_EQ(cpu.state.fpu.fop | cpu.state.fpu.fip | cpu.state.fpu.fdp, 0U);
    for (FpuState::St& st : cpu.state.fpu.st) st = {};
    frstor(cpu, kArea, 4);
    EXPECT_EQ(std::memcmp(&cpu.state.fpu, &before, sizeof before), 0);
  }
}

TEST_F(XstateLegacyTest, TheRegistersFollowTheEnvironment) {
  fnsave(cpu, kArea, 2);
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 14), bit(63) + 0xAB);
  EXPECT_EQ(peek_physical<std::uint16_t>(kArea + 22), 0xBFFFU);
  EXPECT_EQ(peek_physical<std::uint16_t>(kArea + 14 + 70 + 8), 0x4006U);
  SetUp();
  fnsave(cpu, kArea, 4);
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 28), bit(63) + 0xAB);
}

TEST_F(XstateLegacyTest, InitializingKeepsTheRegistersInPlace) {
  const std::uint64_t physical6 = cpu.state.fpu.st[0].significand;
  fninit(cpu.state);
  EXPECT_EQ(cpu.state.fpu.st[6].significand, physical6);
  EXPECT_EQ(cpu.state.fpu.mxcsr, 0x1F80U);
}

}  // namespace
}  // namespace doppel::x86
