#include "isa/system_fixture.h"

namespace doppel::isa {
namespace {

namespace rflags = x86::rflags;
using x86::vector::kGp;
using Transfer = x86::test::FakeIo::Transfer;

class SystemPorts : public test::SystemTest {
 protected:
  static constexpr std::uint64_t kTss = 0x5000;

  /// A 32-bit TSS whose permission bit map has every bit set but those of ports 60h–63h.
  void load_tss() {
    cpu.state.tr = {kTss, 0x68 + 0x20, 0x8B, 0x28};
    poke_physical<std::uint16_t>(kTss + 0x66, 0x68);
    for (unsigned i = 0; i <= 0x20; ++i) poke_physical<std::uint8_t>(kTss + 0x68 + i, 0xFF);
    poke_physical<std::uint8_t>(kTss + 0x68 + 0x60 / 8, 0xF0);
  }
};

TEST_F(SystemPorts, InFillsAlAxOrEax) {
  io.port_values[0x60] = 0x1234'5678;
  gpr(x86::kRax) = ~std::uint64_t{0};
  execute({0xE4, 0x60});  // in al, 60h
  EXPECT_EQ(gpr(x86::kRax), 0xFFFF'FFFF'FFFF'FF78U);
  gpr(x86::kRdx) = 0xFFFF'0060;
  execute({0x66, 0xED});  // in ax, dx
  EXPECT_EQ(gpr(x86::kRax), 0xFFFF'FFFF'FFFF'5678U);
  execute({0xED});  // in eax, dx
  EXPECT_EQ(gpr(x86::kRax), 0x1234'5678U);
}

TEST_F(SystemPorts, OutTakesTheSizeOfItsRegister) {
  gpr(x86::kRax) = 0x1234'5678;
  gpr(x86::kRdx) = 0x3F8;
  execute({0xE6, 0x80});  // out 80h, al
  execute({0x66, 0xEF});  // out dx, ax
  execute({0xEF});        // out dx, eax
  EXPECT_EQ(io.port_writes, (std::vector<Transfer>{{0x80, 1, 0x78}, {0x3F8, 2, 0x5678}, {0x3F8, 4, 0x1234'5678}}));
}

TEST_F(SystemPorts, UsersNeedIoplOrTheBitMap) {
  enter_64_bit(3);
  load_tss();
  execute({0xE4, 0x60});
  execute({0xE5, 0x60});                             // in eax, 60h: ports 60h–63h
  EXPECT_FAULT_CODE(kGp, 0, execute({0xE5, 0x61}));  // 61h–64h
  EXPECT_FAULT_CODE(kGp, 0, execute({0xE6, 0x64}));
  gpr(x86::kRdx) = 0x100;
  EXPECT_FAULT_CODE(kGp, 0, execute({0xEE}));  // past the end of the bit map
  gpr(x86::kRcx) = 1;
  EXPECT_FAULT_CODE(kGp, 0, execute({0xF3, 0x6E}));
  set_iopl(3);
  execute({0xE6, 0x64});
  EXPECT_EQ(io.port_writes.size(), 1U);
}

TEST_F(SystemPorts, InsStoresThroughEsDi) {
  io.port_values[0x1F0] = 0xBEEF;
  gpr(x86::kRdx) = 0x1F0;
  gpr(x86::kRdi) = kData;
  execute({0x66, 0x6D});  // insw
  EXPECT_EQ(peek<std::uint16_t>(kData), 0xBEEF);
  EXPECT_EQ(gpr(x86::kRdi), kData + 2);
}

TEST_F(SystemPorts, RepInsRepeatsAndGoesDownUnderDf) {
  io.port_values[0x1F0] = 0xAB;
  gpr(x86::kRdx) = 0x1F0;
  gpr(x86::kRdi) = kData + 3;
  gpr(x86::kRcx) = 4;
  set_flag(rflags::kDf, true);
  execute({0xF3, 0x6C});  // rep insb
  EXPECT_EQ(peek<std::uint32_t>(kData), 0xABAB'ABABU);
  EXPECT_EQ(gpr(x86::kRdi), kData - 1);
  EXPECT_EQ(gpr(x86::kRcx), 0U);
  EXPECT_EQ(cpu.state.rip, kCode + 2);
}

TEST_F(SystemPorts, RepWithZeroCountDoesNothing) {
  gpr(x86::kRdx) = 0x3F8;
  gpr(x86::kRcx) = 0;
  execute({0xF3, 0x6C});
  EXPECT_EQ(gpr(x86::kRdi), 0U);
}

TEST_F(SystemPorts, RepWithZeroCountNeedsThePort) {
  enter_64_bit(3);
  load_tss();
  gpr(x86::kRdx) = 0x3F8;
  gpr(x86::kRcx) = 0;
  EXPECT_FAULT_CODE(x86::vector::kGp, 0, execute({0xF3, 0x6C}));
}

TEST_F(SystemPorts, RepOutsReadsFromTheOverriddenSegment) {
  cpu.state.seg(x86::SegReg::Fs).base = kData;
  poke_physical<std::uint32_t>(kData + 0x10, 0x4443'4241);
  gpr(x86::kRdx) = 0xE9;
  gpr(x86::kRsi) = 0x10;
  gpr(x86::kRcx) = 3;
  execute({0x64, 0xF3, 0x6E});  // rep outsb fs:
  EXPECT_EQ(io.port_writes, (std::vector<Transfer>{{0xE9, 1, 'A'}, {0xE9, 1, 'B'}, {0xE9, 1, 'C'}}));
  EXPECT_EQ(gpr(x86::kRsi), 0x13U);
}

TEST_F(SystemPorts, WhatWaitsInterruptsBetweenIterations) {
  gpr(x86::kRdx) = 0xE9;
  gpr(x86::kRsi) = kData;
  gpr(x86::kRcx) = 3;
  attention.set(x86::Attention::kInterrupt);
  execute({0xF3, 0x6E});
  EXPECT_EQ(io.port_writes.size(), 1U);
  EXPECT_EQ(gpr(x86::kRcx), 2U);
  EXPECT_EQ(cpu.state.rip, kCode) << "on the instruction, to go on";
  EXPECT_TRUE(flag(rflags::kRf));
  attention.clear(x86::Attention::kInterrupt);
  execute({0xF3, 0x6E});
  EXPECT_EQ(io.port_writes.size(), 3U);
  EXPECT_EQ(cpu.state.rip, kCode + 2);
}

TEST_F(SystemPorts, SingleStepTrapsEachIteration) {
  gpr(x86::kRdx) = 0xE9;
  gpr(x86::kRsi) = kData;
  gpr(x86::kRcx) = 2;
  set_flag(rflags::kTf, true);
  execute({0xF3, 0x6E});
  EXPECT_EQ(io.port_writes.size(), 1U);
  EXPECT_EQ(cpu.state.rip, kCode);
}

TEST_F(SystemPorts, ADestinationThatCannotBeWrittenCostsTheDeviceNothing) {
  enter_protected_32(0);
  cpu.state.seg(x86::SegReg::Es).limit = kData;
  io.port_values[0x60] = 1;
  gpr(x86::kRdx) = 0x60;
  gpr(x86::kRdi) = kData;
  gpr(x86::kRcx) = 2;
  EXPECT_FAULT_CODE(kGp, 0, execute({0xF3, 0x6C}));
  EXPECT_EQ(gpr(x86::kRcx), 1U) << "the first iteration is done and stays done";
  EXPECT_EQ(gpr(x86::kRdi), kData + 1);
  EXPECT_EQ(cpu.state.rip, kCode);
}

TEST_F(SystemPorts, A16BitAddressSizeWraps) {
  enter_real_mode();
  gpr(x86::kRdx) = 0xE9;
  gpr(x86::kRsi) = 0x1'FFFF;
  gpr(x86::kRcx) = 0x1'0001;
  execute({0xF3, 0x6E});
  EXPECT_EQ(gpr(x86::kRsi), 0x1'0000U);
  EXPECT_EQ(gpr(x86::kRcx), 0x1'0000U);
}

TEST_F(SystemPorts, A32BitAddressSizeClearsUpperHalves) {
  gpr(x86::kRdx) = 0xE9;
  gpr(x86::kRsi) = 0xFFFF'FFFF'0000'4000;
  gpr(x86::kRcx) = 0xFFFF'FFFF'0000'0001;
  execute({0x67, 0xF3, 0x6E});
  EXPECT_EQ(gpr(x86::kRsi), 0x4001U);
  EXPECT_EQ(gpr(x86::kRcx), 0U);
}

TEST_F(SystemPorts, IoBreakpointsTrapAfterTheTransfer) {
  cpu.state.cr4 |= x86::cr4::kDe;
  cpu.state.dr[0] = 0x60;
  cpu.state.dr7 = 0x400 | 1 | 2ULL << 16;
  execute({0xE4, 0x61});  // in al, 61h
  EXPECT_EQ(cpu.state.pending_debug, 0U);
  execute({0xE6, 0x60});  // out 60h, al
  EXPECT_EQ(cpu.state.pending_debug, 1U);
  EXPECT_EQ(io.port_writes.size(), 1U);
}

TEST_F(SystemPorts, AnIoBreakpointTrapsBetweenIterations) {
  cpu.state.cr4 |= x86::cr4::kDe;
  cpu.state.dr[3] = 0x1F0;
  cpu.state.dr7 = 0x400 | bit(6) | 2ULL << 28;
  gpr(x86::kRdx) = 0x1F0;
  gpr(x86::kRsi) = kData;
  gpr(x86::kRcx) = 3;
  execute({0xF3, 0x6E});  // rep outsb
  EXPECT_EQ(io.port_writes.size(), 1U);
  EXPECT_EQ(gpr(x86::kRcx), 2U);
  EXPECT_EQ(cpu.state.rip, kCode);
  EXPECT_EQ(cpu.state.pending_debug, 8U);
}

}  // namespace
}  // namespace doppel::isa
