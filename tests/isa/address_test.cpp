#include "isa/system_fixture.h"

namespace doppel::isa {
namespace {

using x86::Access;
using x86::SegReg;
using x86::vector::kGp;
using x86::vector::kSs;

class Address : public test::SystemTest {
 protected:
  x86::LinearAddress linear(std::initializer_list<std::uint8_t> bytes, std::uint64_t size = 1) {
    return linear_address(cpu, decode(bytes), size, Access::Read);
  }
};

TEST_F(Address, BaseIndexScaleDisplacement) {
  gpr(x86::kRbx) = 0x1000;
  gpr(x86::kRcx) = 0x10;
  EXPECT_EQ(effective_address(cpu, decode({0x8B, 0x44, 0xCB, 0xFF})), 0x107FU);  // [rbx + rcx*8 - 1]
}

TEST_F(Address, RipRelativeCountsFromTheNextInstruction) {
  cpu.state.rip = 0x2006;
  EXPECT_EQ(effective_address(cpu, decode({0x8B, 0x05, 0x10, 0x00, 0x00, 0x00})), 0x2016U);
  cpu.state.rip = 0x1'0000'2006;
  EXPECT_EQ(effective_address(cpu, decode({0x67, 0x8B, 0x05, 0x10, 0x00, 0x00, 0x00})), 0x2016U);
}

TEST_F(Address, SizesWrap) {
  gpr(x86::kRbx) = 0xFFFF'FFFF'FFFF'FFFF;
  EXPECT_EQ(effective_address(cpu, decode({0x67, 0x8B, 0x43, 0x02})), 1U);  // [ebx + 2]
  enter_real_mode();
  gpr(x86::kRbx) = 0xFFFF;
  gpr(x86::kRsi) = 0x0003;
  EXPECT_EQ(effective_address(cpu, decode({0x8B, 0x00})), 2U);  // [bx + si]
}

TEST_F(Address, OnlyFsAndGsHaveBasesIn64BitMode) {
  for (x86::Segment& segment : cpu.state.segment) segment.base = 0x100000;
  gpr(x86::kRbx) = 0x10;
  EXPECT_EQ(linear({0x8B, 0x03}), 0x10U);
  EXPECT_EQ(linear({0x64, 0x8B, 0x03}), 0x100010U);
  EXPECT_EQ(linear({0x65, 0x8B, 0x03}), 0x100010U);
  EXPECT_EQ(linear({0x2E, 0x8B, 0x03}), 0x10U);
}

TEST_F(Address, NonCanonicalAddressesFaultBySegment) {
  gpr(x86::kRbx) = gpr(x86::kRbp) = 0x0000'8000'0000'0000;
  EXPECT_FAULT_CODE(kGp, 0, linear({0x8B, 0x03}));
  EXPECT_FAULT_CODE(kSs, 0, linear({0x8B, 0x45, 0x00}));  // [rbp]
  gpr(x86::kRbx) = 0x0000'7FFF'FFFF'FFFD;
  EXPECT_EQ(linear({0x8B, 0x03}, 3), gpr(x86::kRbx));
  EXPECT_FAULT_CODE(kGp, 0, linear({0x8B, 0x03}, 4));
}

TEST_F(Address, LimitsAndDefaultSegmentsInProtectedMode) {
  enter_protected_32(0);
  cpu.state.seg(SegReg::Ds).base = 0x10000;
  cpu.state.seg(SegReg::Ds).limit = 0xFFF;
  cpu.state.seg(SegReg::Ss).base = 0x20000;
  gpr(x86::kRbx) = 0xFFD;
  gpr(x86::kRbp) = 0xFFD;
  EXPECT_EQ(linear({0x8B, 0x03}, 2), 0x10FFDU);
  EXPECT_FAULT_CODE(kGp, 0, linear({0x8B, 0x03}, 4));
  EXPECT_EQ(linear({0x8B, 0x45, 0x00}, 4), 0x20FFDU);
  EXPECT_FAULT_CODE(kGp, 0, linear({0x3E, 0x8B, 0x45, 0x00}, 4));  // DS: on EBP
}

}  // namespace
}  // namespace doppel::isa
