#include "isa/system_fixture.h"

namespace doppel::isa {
namespace {

namespace rflags = x86::rflags;
namespace cr4 = x86::cr4;
using x86::vector::kGp;
using x86::vector::kUd;

class SystemFlags : public test::SystemTest {
 protected:
  void cli() { execute({0xFA}); }
  void sti() { execute({0xFB}); }
  void pushf() { execute({0x9C}); }
  void popf() { execute({0x9D}); }
  void popfd_in_16_bit() { execute({0x66, 0x9D}); }
  void pushfd_in_16_bit() { execute({0x66, 0x9C}); }
};

TEST_F(SystemFlags, CliAndStiAtIopl) {
  for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
    for (unsigned iopl = 0; iopl < 4; ++iopl) {
      enter_64_bit(cpl);
      set_iopl(iopl);
      if (cpl <= iopl) {
        sti();
        EXPECT_TRUE(flag(rflags::kIf));
        cli();
        EXPECT_FALSE(flag(rflags::kIf));
      } else {
        EXPECT_FAULT_CODE(kGp, 0, sti());
        EXPECT_FAULT_CODE(kGp, 0, cli());
      }
    }
  }
}

TEST_F(SystemFlags, StiHoldsInterruptsOffOnlyWhenItSetsTheFlag) {
  sti();
  EXPECT_TRUE(cpu.state.sti_shadow);
  cpu.state.sti_shadow = false;
  sti();
  EXPECT_FALSE(cpu.state.sti_shadow) << "IF was set already";
}

TEST_F(SystemFlags, Virtual8086ModeNeedsIopl3OrVme) {
  enter_virtual_8086(0);
  EXPECT_FAULT_CODE(kGp, 0, cli());
  EXPECT_FAULT_CODE(kGp, 0, sti());
  EXPECT_FAULT_CODE(kGp, 0, pushf());
  EXPECT_FAULT_CODE(kGp, 0, popf());

  enter_virtual_8086(3);
  sti();
  EXPECT_TRUE(flag(rflags::kIf));
  pushf();
  popf();
}

TEST_F(SystemFlags, VmeWorksOnVif) {
  enter_virtual_8086(0);
  cpu.state.cr4 = cr4::kVme;
  sti();
  EXPECT_TRUE(flag(rflags::kVif));
  EXPECT_FALSE(flag(rflags::kIf));
  pushf();
  const auto image = peek<std::uint16_t>(kStackTop - 2);
  EXPECT_TRUE(image & rflags::kIf) << "VIF shows as IF";
  EXPECT_EQ(image & rflags::kIopl, rflags::kIopl) << "IOPL shows as 3";
  cli();
  EXPECT_FALSE(flag(rflags::kVif));
  popf();
  EXPECT_TRUE(flag(rflags::kVif));
  EXPECT_EQ(flags() & rflags::kIopl, 0U);
}

TEST_F(SystemFlags, VmeRefusesPendingInterruptsTrapsAnd32BitForms) {
  enter_virtual_8086(0);
  cpu.state.cr4 = cr4::kVme;
  set_flag(rflags::kVip, true);
  EXPECT_FAULT_CODE(kGp, 0, sti());
  cli();
  poke_physical<std::uint16_t>(kStackTop, rflags::kIf);
  EXPECT_FAULT_CODE(kGp, 0, popf());
  poke_physical<std::uint16_t>(kStackTop, rflags::kTf);
  EXPECT_FAULT_CODE(kGp, 0, popf());
  EXPECT_EQ(gpr(x86::kRsp), kStackTop);
  EXPECT_FAULT_CODE(kGp, 0, popfd_in_16_bit());
  EXPECT_FAULT_CODE(kGp, 0, pushfd_in_16_bit());
}

TEST_F(SystemFlags, ProtectedModeVirtualInterrupts) {
  enter_protected_32(3);
  cpu.state.cr4 = cr4::kPvi;
  sti();
  EXPECT_TRUE(flag(rflags::kVif));
  EXPECT_FALSE(flag(rflags::kIf));
  cli();
  EXPECT_FALSE(flag(rflags::kVif));
  set_flag(rflags::kVip, true);
  EXPECT_FAULT_CODE(kGp, 0, sti());
}

TEST_F(SystemFlags, PushfHidesVmAndRf) {
  set_flag(rflags::kRf | rflags::kCf | rflags::kOf | rflags::kId, true);
  pushf();
  EXPECT_EQ(gpr(x86::kRsp), kStackTop - 8);
  EXPECT_EQ(peek<std::uint64_t>(kStackTop - 8), rflags::kCf | rflags::kOf | rflags::kId | rflags::kReserved1);
}

TEST_F(SystemFlags, PopfByPrivilege) {
  constexpr std::uint64_t kAll = ~std::uint64_t{0};
  constexpr std::uint64_t kAlways =
      rflags::kStatus | rflags::kTf | rflags::kDf | rflags::kNt | rflags::kAc | rflags::kId | rflags::kReserved1;
  poke_physical(kStackTop, kAll);
  popf();
  EXPECT_EQ(flags(), kAlways | rflags::kIf | rflags::kIopl);
  EXPECT_EQ(gpr(x86::kRsp), kStackTop + 8);

  enter_64_bit(3);
  popf();
  EXPECT_EQ(flags(), kAlways) << "CPL 3 above IOPL 0: neither IF nor IOPL";

  enter_64_bit(3);
  set_iopl(3);
  popf();
  EXPECT_EQ(flags(), kAlways | rflags::kIf | rflags::kIopl);
  poke_physical(kStackTop + 8, std::uint64_t{0});
  popf();
  EXPECT_EQ(flags(), rflags::kReserved1 | rflags::kIopl) << "IOPL is CPL 0's alone";
}

TEST_F(SystemFlags, A16BitPopfLeavesTheUpperFlags) {
  set_flag(rflags::kAc | rflags::kId, true);
  poke_physical(kStackTop, std::uint16_t{0});
  execute({0x66, 0x9D});
  EXPECT_TRUE(flag(rflags::kAc));
  EXPECT_TRUE(flag(rflags::kId));
  EXPECT_EQ(gpr(x86::kRsp), kStackTop + 2);
}

TEST_F(SystemFlags, PopfOfAcChangesTheViewUnderSmap) {
  cpu.state.cr4 = cr4::kSmap;
  cpu.mmu.refresh_view();
  ASSERT_EQ(cpu.mmu.data_view(), x86::View::SupervisorSmap);
  poke_physical<std::uint64_t>(kStackTop, rflags::kAc);
  popf();
  EXPECT_EQ(cpu.mmu.data_view(), x86::View::Supervisor);
}

TEST_F(SystemFlags, StacAndClacAreCpl0sOnly) {
  if (!cpuid.has(x86::CpuidModel::Feature::Smap)) GTEST_SKIP() << "the host has no SMAP";
  execute({0x0F, 0x01, 0xCB});
  EXPECT_TRUE(flag(rflags::kAc));
  execute({0x0F, 0x01, 0xCA});
  EXPECT_FALSE(flag(rflags::kAc));
  enter_64_bit(3);
  EXPECT_FAULT(kUd, execute({0x0F, 0x01, 0xCB}));
  EXPECT_FAULT(kUd, execute({0x0F, 0x01, 0xCA}));
}

TEST_F(SystemFlags, LahfAndSahf) {
  set_flag(rflags::kSf | rflags::kCf | rflags::kOf, true);
  gpr(x86::kRax) = 0x1234'5678'9ABC'00DE;
  execute({0x9F});
  EXPECT_EQ(gpr(x86::kRax), 0x1234'5678'9ABC'83DEU);
  gpr(x86::kRax) = 0x5500;  // ZF, AF (no), PF, CF
  execute({0x9E});
  EXPECT_EQ(flags(), rflags::kZf | rflags::kAf | rflags::kPf | rflags::kCf | rflags::kOf | rflags::kReserved1)
      << "OF is not in AH";
}

TEST_F(SystemFlags, SingleFlags) {
  execute({0xF9});
  EXPECT_TRUE(flag(rflags::kCf));
  execute({0xF5});
  EXPECT_FALSE(flag(rflags::kCf));
  execute({0xF5});
  EXPECT_TRUE(flag(rflags::kCf));
  execute({0xF8});
  EXPECT_FALSE(flag(rflags::kCf));
  execute({0xFD});
  EXPECT_TRUE(flag(rflags::kDf));
  execute({0xFC});
  EXPECT_FALSE(flag(rflags::kDf));
}

}  // namespace
}  // namespace doppel::isa
