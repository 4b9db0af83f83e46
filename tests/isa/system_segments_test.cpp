#include "isa/system_fixture.h"

namespace doppel::isa {
namespace {

namespace rflags = x86::rflags;
using x86::SegReg;
using x86::vector::kGp;
using x86::vector::kNp;
using x86::vector::kUd;

constexpr std::uint64_t kGdt = 0x3000;
constexpr std::uint64_t kFlatCode = 0x00CF'9B00'0000'FFFF, kFlatData = 0x00CF'9300'0000'FFFF,
                        kUserData = 0x00CF'F300'0000'FFFF, kAbsentData = 0x00CF'1300'0000'FFFF;

/// Selectors 8: code, 10h: data, 18h: data of CPL 3, 20h: data that is not present.
class SystemSegments : public test::SystemTest {
 protected:
  SystemSegments() { with_gdt(); }
  void with_gdt() {
    std::uint64_t address = kGdt;
    for (const std::uint64_t descriptor : {std::uint64_t{0}, kFlatCode, kFlatData, kUserData, kAbsentData}) {
      poke_physical(address, descriptor);
      address += 8;
    }
    cpu.state.gdtr = {kGdt, 5 * 8 - 1};
  }
};

TEST_F(SystemSegments, MovFromSegmentZeroExtendsIntoARegisterAndStoresAWord) {
  cpu.state.seg(SegReg::Ds).selector = 0x10;
  gpr(x86::kRax) = ~std::uint64_t{0};
  execute({0x8C, 0xD8});  // mov eax, ds
  EXPECT_EQ(gpr(x86::kRax), 0x10U);
  gpr(x86::kRax) = ~std::uint64_t{0};
  execute({0x66, 0x8C, 0xD8});
  EXPECT_EQ(gpr(x86::kRax), 0xFFFF'FFFF'FFFF'0010U);
  gpr(x86::kRbx) = kData;
  poke_physical(kData, ~std::uint64_t{0});
  execute({0x48, 0x8C, 0x1B});  // mov [rbx], ds: a word even with REX.W
  EXPECT_EQ(peek<std::uint64_t>(kData), 0xFFFF'FFFF'FFFF'0010U);
}

TEST_F(SystemSegments, MovToSegmentLoadsTheDescriptor) {
  enter_protected_32(0);
  with_gdt();
  gpr(x86::kRax) = 0x10;
  execute({0x8E, 0xE0});  // mov fs, ax
  EXPECT_EQ(cpu.state.seg(SegReg::Fs).selector, 0x10);
  EXPECT_EQ(cpu.state.seg(SegReg::Fs).limit, 0xFFFF'FFFFU);
  EXPECT_FALSE(cpu.state.ss_shadow);
  gpr(x86::kRax) = 0x20;
  EXPECT_FAULT_CODE(kNp, 0x20, execute({0x8E, 0xE0}));
  gpr(x86::kRax) = 0x28;
  EXPECT_FAULT_CODE(kGp, 0x28, execute({0x8E, 0xE0}));
}

TEST_F(SystemSegments, LoadsOfSsByMovAndPopHoldInterruptsOff) {
  enter_protected_32(0);
  with_gdt();
  gpr(x86::kRax) = 0x10;
  execute({0x8E, 0xD0});  // mov ss, ax
  EXPECT_TRUE(cpu.state.ss_shadow);
  cpu.state.ss_shadow = false;
  poke_physical<std::uint32_t>(kStackTop, 0x10);
  execute({0x17});  // pop ss
  EXPECT_TRUE(cpu.state.ss_shadow);
  EXPECT_EQ(gpr(x86::kRsp), kStackTop + 4);
  cpu.state.ss_shadow = false;
  gpr(x86::kRbx) = kData;
  poke_physical<std::uint32_t>(kData, 0x1234);
  poke_physical<std::uint16_t>(kData + 4, 0x10);
  execute({0x0F, 0xB2, 0x0B});  // lss ecx, [ebx]
  EXPECT_EQ(gpr(x86::kRcx), 0x1234U);
  EXPECT_FALSE(cpu.state.ss_shadow) << "LSS loads ESP with it and needs none";
}

TEST_F(SystemSegments, APopThatFaultsLeavesTheStackPointer) {
  enter_protected_32(0);
  with_gdt();
  poke_physical<std::uint32_t>(kStackTop, 0x20);
  EXPECT_FAULT_CODE(kNp, 0x20, execute({0x1F}));  // pop ds
  EXPECT_EQ(gpr(x86::kRsp), kStackTop);
}

TEST_F(SystemSegments, PushAndPopFollowTheOperandSize) {
  cpu.state.seg(SegReg::Fs).selector = 0x10;
  execute({0x0F, 0xA0});  // push fs
  EXPECT_EQ(gpr(x86::kRsp), kStackTop - 8);
  EXPECT_EQ(peek<std::uint64_t>(kStackTop - 8), 0x10U);
  execute({0x0F, 0xA9});  // pop gs
  EXPECT_EQ(gpr(x86::kRsp), kStackTop);
  EXPECT_EQ(cpu.state.seg(SegReg::Gs).selector, 0x10);
  execute({0x66, 0x0F, 0xA0});
  EXPECT_EQ(gpr(x86::kRsp), kStackTop - 2);
}

TEST_F(SystemSegments, RealModeLoadsTakeAnySelector) {
  enter_real_mode();
  gpr(x86::kRax) = 0x1234;
  execute({0x8E, 0xD8});  // mov ds, ax
  EXPECT_EQ(cpu.state.seg(SegReg::Ds).base, 0x12340U);
}

TEST_F(SystemSegments, FarPointerLoadsChangeNothingWhenTheSelectorFaults) {
  enter_protected_32(0);
  with_gdt();
  gpr(x86::kRbx) = kData;
  poke_physical<std::uint32_t>(kData, 0x1234);
  poke_physical<std::uint16_t>(kData + 4, 0x20);
  EXPECT_FAULT_CODE(kNp, 0x20, execute({0xC4, 0x0B}));  // les ecx, [ebx]
  EXPECT_EQ(gpr(x86::kRcx), 0U);
}

TEST_F(SystemSegments, LarLslVerrAndVerwReportInZf) {
  gpr(x86::kRax) = 0x10;
  gpr(x86::kRbx) = ~std::uint64_t{0};
  execute({0x0F, 0x02, 0xD8});  // lar ebx, eax
  EXPECT_TRUE(flag(rflags::kZf));
  EXPECT_EQ(gpr(x86::kRbx) & 0xF0FF00, 0xC09300U);
  execute({0x0F, 0x03, 0xD8});  // lsl ebx, eax
  EXPECT_EQ(gpr(x86::kRbx), 0xFFFF'FFFFU);
  execute({0x0F, 0x00, 0xE8});  // verw ax
  EXPECT_TRUE(flag(rflags::kZf));
  gpr(x86::kRax) = 0x08;
  execute({0x0F, 0x00, 0xE8});
  EXPECT_FALSE(flag(rflags::kZf)) << "code is not writable";
  execute({0x0F, 0x00, 0xE0});  // verr ax
  EXPECT_TRUE(flag(rflags::kZf));
  gpr(x86::kRax) = 0xFFF8;
  gpr(x86::kRbx) = 5;
  execute({0x0F, 0x02, 0xD8});
  EXPECT_FALSE(flag(rflags::kZf));
  EXPECT_EQ(gpr(x86::kRbx), 5U) << "the destination is left alone";
}

TEST_F(SystemSegments, DescriptorInstructionsDoNotExistInRealMode) {
  enter_real_mode();
  for (const std::initializer_list<std::uint8_t> bytes : {std::initializer_list<std::uint8_t>{0x0F, 0x02, 0xD8},
                                                          {0x0F, 0x03, 0xD8},
                                                          {0x0F, 0x00, 0xE0},
                                                          {0x0F, 0x00, 0xE8},
                                                          {0x0F, 0x00, 0xC0},
                                                          {0x0F, 0x00, 0xC8},
                                                          {0x0F, 0x00, 0xD0},
                                                          {0x0F, 0x00, 0xD8}}) {
    Insn insn;
    const auto view = std::as_bytes(std::span{bytes.begin(), bytes.size()});
    if (decoder.decode(view, CodeSize::Bits16, false, insn) != DecodeStatus::Ok) continue;
    EXPECT_FAULT(kUd, execute(bytes));
  }
}

TEST_F(SystemSegments, ArplRaisesRpl) {
  enter_protected_32(3);
  gpr(x86::kRax) = 0x1238;
  gpr(x86::kRcx) = 3;
  execute({0x63, 0xC8});  // arpl ax, cx
  EXPECT_EQ(gpr(x86::kRax), 0x123BU);
  EXPECT_TRUE(flag(rflags::kZf));
  gpr(x86::kRcx) = 1;
  execute({0x63, 0xC8});
  EXPECT_EQ(gpr(x86::kRax), 0x123BU);
  EXPECT_FALSE(flag(rflags::kZf));
}

TEST_F(SystemSegments, SwapgsIsThe64BitKernels) {
  cpu.state.seg(SegReg::Gs).base = 1;
  cpu.state.kernel_gs_base = 2;
  execute({0x0F, 0x01, 0xF8});
  EXPECT_EQ(cpu.state.seg(SegReg::Gs).base, 2U);
  EXPECT_EQ(cpu.state.kernel_gs_base, 1U);
  enter_64_bit(3);
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x01, 0xF8}));
}

TEST_F(SystemSegments, FsgsbaseNeedsCr4AndCanonicalBases) {
  if (!cpuid.has(x86::CpuidModel::Feature::Fsgsbase)) GTEST_SKIP() << "the host has no FSGSBASE";
  EXPECT_FAULT(kUd, execute({0xF3, 0x48, 0x0F, 0xAE, 0xC0}));
  cpu.state.cr4 |= x86::cr4::kFsgsbase;
  gpr(x86::kRax) = 0xFFFF'8000'0000'1234;
  execute({0xF3, 0x48, 0x0F, 0xAE, 0xD0});  // wrfsbase rax
  EXPECT_EQ(cpu.state.seg(SegReg::Fs).base, gpr(x86::kRax));
  execute({0xF3, 0x0F, 0xAE, 0xC3});  // rdfsbase ebx
  EXPECT_EQ(gpr(x86::kRbx), 0x1234U);
  execute({0xF3, 0x0F, 0xAE, 0xD8});  // wrgsbase eax
  EXPECT_EQ(cpu.state.seg(SegReg::Gs).base, 0x1234U);
  gpr(x86::kRax) = 0x0000'8000'0000'0000;
  EXPECT_FAULT_CODE(kGp, 0, execute({0xF3, 0x48, 0x0F, 0xAE, 0xD8}));
}

}  // namespace
}  // namespace doppel::isa
