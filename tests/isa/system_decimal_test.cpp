#include "isa/system_fixture.h"

namespace doppel::isa {
namespace {

namespace rflags = x86::rflags;
using x86::vector::kDe;

class SystemDecimal : public test::SystemTest {
 protected:
  SystemDecimal() { enter_protected_32(0); }
  void start(std::uint16_t ax, bool af, bool cf) {
    gpr(x86::kRax) = ax;
    set_flag(rflags::kAf, af);
    set_flag(rflags::kCf, cf);
  }
  /// Decimal value of packed BCD.
  static unsigned decimal(unsigned packed) { return (packed >> 4) * 10 + (packed & 0xF); }
  static unsigned packed(unsigned decimal) { return (decimal / 10) << 4 | decimal % 10; }
};

TEST_F(SystemDecimal, DaaCorrectsEverySumOfTwoPackedNumbers) {
  for (unsigned a = 0; a < 100; ++a) {
    for (unsigned b = 0; b < 100; ++b) {
      const unsigned sum = packed(a) + packed(b);
      start(static_cast<std::uint8_t>(sum), (packed(a) & 0xF) + (packed(b) & 0xF) > 0xF, sum > 0xFF);
      execute({0x27});
      ASSERT_EQ(gpr(x86::kRax), packed((a + b) % 100)) << a << " + " << b;
      ASSERT_EQ(flag(rflags::kCf), a + b > 99) << a << " + " << b;
    }
  }
}

TEST_F(SystemDecimal, DasCorrectsEveryDifferenceOfTwoPackedNumbers) {
  for (unsigned a = 0; a < 100; ++a) {
    for (unsigned b = 0; b < 100; ++b) {
      const auto difference = static_cast<std::uint8_t>(packed(a) - packed(b));
      start(difference, (packed(a) & 0xF) < (packed(b) & 0xF), packed(a) < packed(b));
      execute({0x2F});
      ASSERT_EQ(gpr(x86::kRax), packed((100 + a - b) % 100)) << a << " - " << b;
      ASSERT_EQ(flag(rflags::kCf), a < b) << a << " - " << b;
    }
  }
}

TEST_F(SystemDecimal, DaaExampleOfTheManual) {
  start(0xAE, false, false);  // 79h + 35h
  execute({0x27});
  EXPECT_EQ(gpr(x86::kRax), 0x14U);
  EXPECT_EQ(flags() & (rflags::kCf | rflags::kAf | rflags::kPf | rflags::kZf | rflags::kSf),
            rflags::kCf | rflags::kAf | rflags::kPf);
}

TEST_F(SystemDecimal, AaaAndAasCarryIntoAh) {
  start(0x010F, false, false);
  execute({0x37});
  EXPECT_EQ(gpr(x86::kRax), 0x0205U);
  EXPECT_TRUE(flag(rflags::kCf) && flag(rflags::kAf));
  start(0x0105, false, true);
  execute({0x37});
  EXPECT_EQ(gpr(x86::kRax), 0x0105U);
  EXPECT_FALSE(flag(rflags::kCf) || flag(rflags::kAf));
  start(0x02FF, true, true);
  execute({0x3F});
  EXPECT_EQ(gpr(x86::kRax), 0x0109U);
  EXPECT_TRUE(flag(rflags::kCf) && flag(rflags::kAf));
}

TEST_F(SystemDecimal, AamDividesAndAadMultiplies) {
  start(0x0063, false, false);
  execute({0xD4, 0x0A});
  EXPECT_EQ(gpr(x86::kRax), 0x0909U);
  execute({0xD5, 0x0A});
  EXPECT_EQ(gpr(x86::kRax), 0x0063U);
  start(0x00F5, false, false);
  execute({0xD4, 0x10});
  EXPECT_EQ(gpr(x86::kRax), 0x0F05U) << "any base will do";
  EXPECT_FAULT(kDe, execute({0xD4, 0x00}));
  EXPECT_EQ(gpr(x86::kRax), 0x0F05U);
}

TEST_F(SystemDecimal, SalcSpreadsCarry) {
  start(0x1234, false, true);
  execute({0xD6});
  EXPECT_EQ(gpr(x86::kRax), 0x12FFU);
  set_flag(rflags::kCf, false);
  execute({0xD6});
  EXPECT_EQ(gpr(x86::kRax), 0x1200U);
}

TEST_F(SystemDecimal, XlatLooksAlUpInTheOverriddenSegment) {
  poke_physical<std::uint8_t>(kData + 0x85, 0x77);
  gpr(x86::kRbx) = kData;
  gpr(x86::kRax) = 0x1185;
  execute({0xD7});
  EXPECT_EQ(gpr(x86::kRax), 0x1177U);
  cpu.state.seg(x86::SegReg::Es).base = 0x100;
  poke_physical<std::uint8_t>(kData + 0x177, 0x66);
  execute({0x26, 0xD7});
  EXPECT_EQ(gpr(x86::kRax), 0x1166U);
}

}  // namespace
}  // namespace doppel::isa
