#include "isa/system_fixture.h"

namespace doppel::isa {
namespace {

namespace rflags = x86::rflags;
using x86::SegReg;
using x86::vector::kBr;

/// What the operands of far transfers and software interrupts mean; the transfers themselves are x86/transfer_test.
class SystemTransfers : public test::SystemTest {
 protected:
  static constexpr std::uint64_t kGdt = 0x3000, kIdt = 0x2000;
  static constexpr std::uint64_t kCode64 = 0x00AF'9B00'0000'FFFF, kCode32 = 0x00CF'9B00'0000'FFFF,
                                 kFlatData = 0x00CF'9300'0000'FFFF;

  SystemTransfers() { with_gdt(); }
  void with_gdt() {
    std::uint64_t address = kGdt;
    for (const std::uint64_t descriptor : {std::uint64_t{0}, kCode64, kFlatData, kCode32}) {
      poke_physical(address, descriptor);
      address += 8;
    }
    cpu.state.gdtr = {kGdt, 4 * 8 - 1};
  }
  template <class T>
  void push_values(std::initializer_list<T> values) {
    std::uint64_t address = kStackTop;
    for (const T value : values) {
      poke_physical<T>(address, value);
      address += sizeof value;
    }
  }
};

TEST_F(SystemTransfers, FarReturnsIn64BitModePop4BytesOr8) {
  push_values<std::uint32_t>({0x7000, 0x08});
  execute({0xCB});
  EXPECT_EQ(cpu.state.rip, 0x7000U);
  EXPECT_EQ(gpr(x86::kRsp), kStackTop + 8);
  gpr(x86::kRsp) = kStackTop;
  push_values<std::uint64_t>({0x7100, 0x08});
  execute({0x48, 0xCA, 0x20, 0x00});  // retfq 20h
  EXPECT_EQ(cpu.state.rip, 0x7100U);
  EXPECT_EQ(gpr(x86::kRsp), kStackTop + 16 + 0x20);
}

TEST_F(SystemTransfers, FarJumpsThroughMemoryTakeTheSelectorAfterTheOffset) {
  gpr(x86::kRbx) = kData;
  poke_physical<std::uint32_t>(kData, 0x7000);
  poke_physical<std::uint16_t>(kData + 4, 0x18);
  execute({0xFF, 0x2B});  // jmp far [rbx]
  EXPECT_EQ(cpu.state.rip, 0x7000U);
  EXPECT_EQ(cpu.state.seg(SegReg::Cs).selector, 0x18);
  EXPECT_FALSE(cpu.state.code_64());
}

TEST_F(SystemTransfers, DirectFarCallsPushTheReturnAddress) {
  enter_protected_32(0);
  with_gdt();
  cpu.state.seg(SegReg::Cs).selector = 0x18;
  execute({0x9A, 0x00, 0x70, 0x00, 0x00, 0x18, 0x00});
  EXPECT_EQ(cpu.state.rip, 0x7000U);
  EXPECT_EQ(peek<std::uint32_t>(kStackTop - 4), 0x18U);
  EXPECT_EQ(peek<std::uint32_t>(kStackTop - 8), kCode + 7);
}

TEST_F(SystemTransfers, IretqPopsFiveQuadwords) {
  push_values<std::uint64_t>({0x7000, 0x08, rflags::kIf, 0x6000, 0x10});
  execute({0x48, 0xCF});
  EXPECT_EQ(cpu.state.rip, 0x7000U);
  EXPECT_EQ(gpr(x86::kRsp), 0x6000U);
  EXPECT_TRUE(flag(rflags::kIf));
}

TEST_F(SystemTransfers, SyscallAndSysretSwitchPrivilege) {
  cpu.state.star = std::uint64_t{0x0008} << 32 | std::uint64_t{0x0023} << 48;
  cpu.state.lstar = 0x7000;
  enter_64_bit(3);
  cpu.state.star = std::uint64_t{0x0008} << 32 | std::uint64_t{0x0023} << 48;
  cpu.state.lstar = 0x7000;
  execute({0x0F, 0x05});
  EXPECT_EQ(cpu.state.rip, 0x7000U);
  EXPECT_EQ(gpr(x86::kRcx), kCode + 2);
  EXPECT_EQ(cpu.state.cpl(), 0U);
  execute({0x48, 0x0F, 0x07});
  EXPECT_EQ(cpu.state.rip, kCode + 2);
  EXPECT_EQ(cpu.state.cpl(), 3U);
  EXPECT_TRUE(cpu.state.code_64());
}

TEST_F(SystemTransfers, SysretWithoutRexWReturnsToCompatibilityMode) {
  cpu.state.star = std::uint64_t{0x0023} << 48;
  gpr(x86::kRcx) = 0x7000;
  execute({0x0F, 0x07});
  EXPECT_EQ(cpu.state.rip, 0x7000U);
  EXPECT_FALSE(cpu.state.code_64());
  EXPECT_EQ(cpu.state.cpl(), 3U);
}

TEST_F(SystemTransfers, SoftwareInterruptsUseTheirVector) {
  enter_real_mode();
  cpu.state.idtr = {kIdt, 0x3FF};
  for (unsigned vector = 0; vector < 256; ++vector)
    poke_physical<std::uint32_t>(kIdt + 4 * vector, 0x0100'0000 + vector);
  const auto taken = [&](std::initializer_list<std::uint8_t> bytes) {
    cpu.state.rip = kCode;
    cpu.state.seg(SegReg::Cs).base = 0;
    cpu.state.seg(SegReg::Cs).selector = 0;
    gpr(x86::kRsp) = kStackTop;
    execute(bytes);
    return cpu.state.rip;
  };
  EXPECT_EQ(taken({0xCD, 0x21}), 0x21U);
  EXPECT_EQ(peek<std::uint16_t>(kStackTop - 6), kCode + 2) << "the next instruction's";
  EXPECT_EQ(taken({0xCC}), 3U);
  EXPECT_EQ(taken({0xF1}), 1U);
  set_flag(rflags::kOf, false);
  EXPECT_EQ(taken({0xCE}), kCode + 1) << "no overflow, no interrupt";
  set_flag(rflags::kOf, true);
  EXPECT_EQ(taken({0xCE}), 4U);
}

TEST_F(SystemTransfers, BoundComparesSigned) {
  enter_protected_32(0);
  gpr(x86::kRbx) = kData;
  poke_physical<std::int32_t>(kData, -5);
  poke_physical<std::int32_t>(kData + 4, 5);
  for (const std::int32_t inside : {-5, 0, 5}) {
    gpr(x86::kRax) = static_cast<std::uint32_t>(inside);
    execute({0x62, 0x03});
  }
  for (const std::int32_t outside : {-6, 6, INT32_MIN, INT32_MAX}) {
    gpr(x86::kRax) = static_cast<std::uint32_t>(outside);
    EXPECT_FAULT(kBr, execute({0x62, 0x03}));
  }
}

}  // namespace
}  // namespace doppel::isa
