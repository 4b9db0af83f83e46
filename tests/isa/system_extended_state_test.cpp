#include "isa/system_fixture.h"

namespace doppel::isa {
namespace {

namespace cr0 = x86::cr0;
namespace cr4 = x86::cr4;
using x86::vector::kGp;
using x86::vector::kMf;
using x86::vector::kNm;
using x86::vector::kUd;

/// The checks before the images are touched; the images are x86/xstate_test.
class SystemExtendedState : public test::SystemTest {
 protected:
  SystemExtendedState() { gpr(x86::kRbx) = kData; }

  void fxsave() { execute({0x0F, 0xAE, 0x03}); }
  void fxrstor() { execute({0x0F, 0xAE, 0x0B}); }
  void ldmxcsr() { execute({0x0F, 0xAE, 0x13}); }
  void stmxcsr() { execute({0x0F, 0xAE, 0x1B}); }
  void xsave() { execute({0x0F, 0xAE, 0x23}); }
  void xrstor() { execute({0x0F, 0xAE, 0x2B}); }
  void fnsave() { execute({0xDD, 0x33}); }
  void frstor() { execute({0xDD, 0x23}); }
  void fnstenv() { execute({0xD9, 0x33}); }
  void fldenv() { execute({0xD9, 0x23}); }
  void fninit() { execute({0xDB, 0xE3}); }
};

TEST_F(SystemExtendedState, FxsaveAndFxrstor) {
  cpu.state.fpu.fcw = 0x27F;
  cpu.state.cr4 = cr4::kOsfxsr;
  fxsave();
  EXPECT_EQ(peek<std::uint16_t>(kData), 0x27F);
  cpu.state.fpu.fcw = 0x37F;
  fxrstor();
  EXPECT_EQ(cpu.state.fpu.fcw, 0x27F);
  gpr(x86::kRbx) = kData + 8;
  EXPECT_FAULT_CODE(kGp, 0, fxsave());  // alignment
  cpu.state.cr0 |= cr0::kTs;
  EXPECT_FAULT(kNm, fxsave());
  EXPECT_FAULT(kNm, fxrstor());
  cpu.state.cr0 |= cr0::kEm;
  EXPECT_FAULT(kUd, fxsave());
  EXPECT_FAULT(kUd, fxrstor());
}

TEST_F(SystemExtendedState, MxcsrNeedsOsfxsr) {
  EXPECT_FAULT(kUd, ldmxcsr());
  EXPECT_FAULT(kUd, stmxcsr());
  cpu.state.cr4 = cr4::kOsfxsr;
  poke_physical<std::uint32_t>(kData, 0x1FA0);
  ldmxcsr();
  EXPECT_EQ(cpu.state.fpu.mxcsr, 0x1FA0U);
  poke_physical<std::uint32_t>(kData, 0);
  stmxcsr();
  EXPECT_EQ(peek<std::uint32_t>(kData), 0x1FA0U);
  poke_physical<std::uint32_t>(kData, 0x10000);
  EXPECT_FAULT_CODE(kGp, 0, ldmxcsr());
  cpu.state.cr0 |= cr0::kTs;
  EXPECT_FAULT(kNm, ldmxcsr());
  cpu.state.cr0 |= cr0::kEm;
  EXPECT_FAULT(kUd, ldmxcsr());
}

TEST_F(SystemExtendedState, VexMxcsrNeedsAvxState) {
  if (!cpuid.has(x86::CpuidModel::Feature::Avx)) GTEST_SKIP() << "the host has no AVX";
  cpu.state.cr4 = cr4::kOsfxsr | cr4::kOsxsave;
  cpu.state.xcr0 = 3;
  EXPECT_FAULT(kUd, execute({0xC5, 0xF8, 0xAE, 0x1B}));
  cpu.state.xcr0 = 7;
  execute({0xC5, 0xF8, 0xAE, 0x1B});  // vstmxcsr [rbx]
  EXPECT_EQ(peek<std::uint32_t>(kData), cpu.state.fpu.mxcsr);
  execute({0xC5, 0xF8, 0xAE, 0x13});
  cpu.state.cr0 |= cr0::kTs;
  EXPECT_FAULT(kNm, execute({0xC5, 0xF8, 0xAE, 0x13}));
}

TEST_F(SystemExtendedState, XsaveNeedsOsxsave) {
  if (!cpuid.has(x86::CpuidModel::Feature::Xsave)) GTEST_SKIP() << "the host has no XSAVE";
  EXPECT_FAULT(kUd, xsave());
  EXPECT_FAULT(kUd, xrstor());
  cpu.state.cr4 = cr4::kOsxsave;
  cpu.state.xcr0 = 3;
  gpr(x86::kRax) = 3;
  cpu.state.ymm[2].qword[0] = 0x1234;
  xsave();
  EXPECT_EQ(peek<std::uint64_t>(kData + 512) & 2, 2U);
  cpu.state.ymm[2].qword[0] = 0;
  xrstor();
  EXPECT_EQ(cpu.state.ymm[2].qword[0], 0x1234U);
  gpr(x86::kRbx) = kData + 16;
  EXPECT_FAULT_CODE(kGp, 0, xsave());
  EXPECT_FAULT_CODE(kGp, 0, xrstor());
  cpu.state.cr0 |= cr0::kTs;
  EXPECT_FAULT(kNm, xsave());
  EXPECT_FAULT(kNm, xrstor());
}

TEST_F(SystemExtendedState, X87ImagesNeedNoPendingErrorButToLoad) {
  cpu.state.cr0 |= cr0::kNe;
  cpu.state.fpu.fsw = 0x80;  // ES
  fnstenv();
  cpu.state.fpu.fsw = 0x80;
  fnsave();
  cpu.state.fpu.fsw = 0x80;
  EXPECT_FAULT(kMf, frstor());
  EXPECT_FAULT(kMf, fldenv());
  fninit();
  EXPECT_EQ(cpu.state.fpu.fsw, 0);
  EXPECT_EQ(cpu.state.fpu.fcw, 0x37F);
  frstor();
}

TEST_F(SystemExtendedState, WithoutNeAnErrorIsAnInterrupt) {
  fnsave();
  cpu.state.fpu.fsw = 0x80;
  EXPECT_THROW(frstor(), x86::Restart);  // the interrupt comes first
  EXPECT_TRUE(io.ferr);
  EXPECT_TRUE(cpu.state.ferr);
  frstor();
  EXPECT_FALSE(io.ferr);
  EXPECT_FALSE(cpu.state.ferr);
}

TEST_F(SystemExtendedState, EmulationAndTaskSwitchStopX87Instructions) {
  for (const std::uint64_t bit : {cr0::kEm, cr0::kTs}) {
    cpu.state.cr0 = cr0::kPe | cr0::kEt | bit;
    EXPECT_FAULT(kNm, fnsave());
    EXPECT_FAULT(kNm, frstor());
    EXPECT_FAULT(kNm, fnstenv());
    EXPECT_FAULT(kNm, fldenv());
    EXPECT_FAULT(kNm, fninit());
  }
}

}  // namespace
}  // namespace doppel::isa
