#include "isa/system_fixture.h"

namespace doppel::isa {
namespace {

namespace cr4 = x86::cr4;
namespace rflags = x86::rflags;
using Feature = x86::CpuidModel::Feature;
using x86::vector::kGp;
using x86::vector::kUd;

class SystemProcessor : public test::SystemTest {};

TEST_F(SystemProcessor, HltStopsTheProcessorOfCpl0) {
  execute({0xF4});
  EXPECT_EQ(cpu.state.activity, x86::Activity::Halted);
  EXPECT_EQ(cpu.state.rip, kCode + 1);
  enter_64_bit(3);
  EXPECT_FAULT_CODE(kGp, 0, execute({0xF4}));
  EXPECT_EQ(cpu.state.activity, x86::Activity::Running);
}

TEST_F(SystemProcessor, CachesAndTranslationsAreCpl0s) {
  enter_64_bit(3);
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x09}));        // wbinvd
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x08}));        // invd
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x01, 0x38}));  // invlpg [rax]
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x32}));        // rdmsr
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x30}));        // wrmsr
}

TEST_F(SystemProcessor, InvlpgOfANonCanonicalAddressDoesNothing) {
  gpr(x86::kRax) = 0x0000'8000'0000'0000;
  execute({0x0F, 0x01, 0x38});
  EXPECT_EQ(cpu.state.rip, kCode + 3);
}

TEST_F(SystemProcessor, InvpcidReadsItsDescriptor) {
  if (!cpuid.has(Feature::Invpcid)) GTEST_SKIP() << "the host has no INVPCID";
  gpr(x86::kRbx) = kData;
  gpr(x86::kRax) = 2;
  execute({0x66, 0x0F, 0x38, 0x82, 0x03});
  gpr(x86::kRax) = 4;
  EXPECT_FAULT_CODE(kGp, 0, execute({0x66, 0x0F, 0x38, 0x82, 0x03}));
  gpr(x86::kRax) = 1;
  poke_physical<std::uint64_t>(kData, 1 << 12);
  EXPECT_FAULT_CODE(kGp, 0, execute({0x66, 0x0F, 0x38, 0x82, 0x03}));  // reserved bits of the descriptor
  enter_64_bit(3);
  EXPECT_FAULT_CODE(kGp, 0, execute({0x66, 0x0F, 0x38, 0x82, 0x03}));
}

TEST_F(SystemProcessor, FencesAndCacheLinesPass) {
  gpr(x86::kRbx) = kData;
  execute({0x0F, 0xAE, 0xE8});
  execute({0x0F, 0xAE, 0xF0});
  execute({0x0F, 0xAE, 0xF8});
  execute({0x0F, 0xAE, 0x3B});  // clflush [rbx]
  gpr(x86::kRbx) = 0x0000'8000'0000'0000;
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0xAE, 0x3B}));
  execute({0x0F, 0x18, 0x0B});  // prefetcht0 [rbx]
}

TEST_F(SystemProcessor, CpuidFillsFourRegistersAndClearsTheirUpperHalves) {
  io.id = 3;
  for (const x86::Gpr reg : {x86::kRax, x86::kRbx, x86::kRcx, x86::kRdx}) gpr(reg) = 0xFFFF'FFFF'0000'0000;
  gpr(x86::kRax) |= 1;
  execute({0x0F, 0xA2});
  const x86::CpuidResult expected = cpuid.query(1, 0, {3, cpu.state.cr4, cpu.state.xcr0, cpu.state.misc_enable});
  EXPECT_EQ(gpr(x86::kRax), expected.eax);
  EXPECT_EQ(gpr(x86::kRbx), expected.ebx);
  EXPECT_EQ(gpr(x86::kRcx), expected.ecx);
  EXPECT_EQ(gpr(x86::kRdx), expected.edx);
  EXPECT_EQ(gpr(x86::kRbx) >> 24, 3U) << "the initial APIC ID";
}

TEST_F(SystemProcessor, MsrsGoThroughEdxEax) {
  constexpr std::uint32_t kLstar = 0xC000'0082;
  gpr(x86::kRcx) = kLstar;
  gpr(x86::kRax) = 0xFFFF'FFFF'8000'1000;
  gpr(x86::kRdx) = 0x1234'5678'FFFF'FFFF;
  execute({0x0F, 0x30});
  EXPECT_EQ(cpu.state.lstar, 0xFFFF'FFFF'8000'1000U);
  execute({0x0F, 0x32});
  EXPECT_EQ(gpr(x86::kRax), 0x8000'1000U);
  EXPECT_EQ(gpr(x86::kRdx), 0xFFFF'FFFFU);
  gpr(x86::kRcx) = 0xDEAD'BEEF;
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x32}));
}

TEST_F(SystemProcessor, RdtscUnderTsd) {
  cpu.state.tsc_offset = std::uint64_t{5} << 40;
  execute({0x0F, 0x31});
  EXPECT_GE(gpr(x86::kRdx), 5U << 8);
  EXPECT_LE(gpr(x86::kRax), 0xFFFF'FFFFU);
  enter_64_bit(3);
  execute({0x0F, 0x31});
  cpu.state.cr4 = cr4::kTsd;
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x31}));
  enter_64_bit(0);
  cpu.state.cr4 = cr4::kTsd;
  execute({0x0F, 0x31});
}

TEST_F(SystemProcessor, TscAuxIsTheProcessorsName) {
  if (!cpuid.has(Feature::Rdtscp)) GTEST_SKIP() << "the host has no RDTSCP";
  cpu.state.tsc_aux = 0x8000'0007;
  gpr(x86::kRcx) = ~std::uint64_t{0};
  execute({0x0F, 0x01, 0xF9});
  EXPECT_EQ(gpr(x86::kRcx), 0x8000'0007U);
  if (!cpuid.has(Feature::Rdpid)) return;
  execute({0xF3, 0x0F, 0xC7, 0xFB});  // rdpid rbx
  EXPECT_EQ(gpr(x86::kRbx), 0x8000'0007U);
}

TEST_F(SystemProcessor, ThereAreNoPerformanceCounters) {
  cpu.state.cr4 = cr4::kPce;
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x33}));
}

TEST_F(SystemProcessor, Xcr0NeedsOsxsave) {
  if (!cpuid.has(Feature::Xsave)) GTEST_SKIP() << "the host has no XSAVE";
  EXPECT_FAULT(kUd, execute({0x0F, 0x01, 0xD0}));
  EXPECT_FAULT(kUd, execute({0x0F, 0x01, 0xD1}));
  cpu.state.cr4 = cr4::kOsxsave;
  execute({0x0F, 0x01, 0xD0});
  EXPECT_EQ(gpr(x86::kRax), 1U);
  gpr(x86::kRax) = 3;
  execute({0x0F, 0x01, 0xD1});
  EXPECT_EQ(cpu.state.xcr0, 3U);
  gpr(x86::kRax) = 2;
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x01, 0xD1}));  // x87 cannot be off
  gpr(x86::kRcx) = 7;
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x01, 0xD0}));
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x01, 0xD1}));
  enter_64_bit(3);
  cpu.state.cr4 = cr4::kOsxsave;
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x01, 0xD1}));
}

TEST_F(SystemProcessor, RdrandSetsCarryAndClearsTheOtherStatusFlags) {
  if (!cpuid.has(Feature::Rdrand)) GTEST_SKIP() << "the host has no RDRAND";
  set_flag(rflags::kStatus, true);
  gpr(x86::kRax) = ~std::uint64_t{0};
  execute({0x66, 0x0F, 0xC7, 0xF0});  // rdrand ax
  EXPECT_EQ(flags() & rflags::kStatus & ~rflags::kCf, 0U);
  EXPECT_EQ(gpr(x86::kRax) >> 16, ~std::uint64_t{0} >> 16);
  execute({0x0F, 0xC7, 0xF0});  // rdrand eax
  EXPECT_EQ(gpr(x86::kRax) >> 32, 0U);
}

TEST_F(SystemProcessor, HypercallsAreUnknown) {
  execute({0x0F, 0x01, 0xC1});  // vmcall
  EXPECT_EQ(static_cast<std::int64_t>(gpr(x86::kRax)), -1000);
  execute({0x0F, 0x01, 0xD9});  // vmmcall
  EXPECT_EQ(static_cast<std::int64_t>(gpr(x86::kRax)), -1000);
  enter_64_bit(3);
  execute({0x0F, 0x01, 0xC1});
  EXPECT_EQ(static_cast<std::int64_t>(gpr(x86::kRax)), -1);
}

TEST_F(SystemProcessor, UndefinedInstructionsAreUndefined) {
  EXPECT_FAULT(kUd, execute({0x0F, 0x0B}));
  EXPECT_FAULT(kUd, execute({0x0F, 0xB9, 0xC0}));
  EXPECT_FAULT(kUd, execute({0x0F, 0xFF, 0xC0}));
}

}  // namespace
}  // namespace doppel::isa
