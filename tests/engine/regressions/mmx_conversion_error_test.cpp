#include "engine/guest_program.h"

/// CVTPD2PI that raised #XM left MXCSR and the x87 unit as they were; both have changed by then.
namespace doppel::engine::test {
namespace {

class MmxConversionError : public OnEachEngine {};

TEST_P(MmxConversionError, HasEnteredMmx) {
  constexpr unsigned kXm = x86::vector::kXm;
  place(kCodeAddress, {0x66, 0x0F, 0x2D, 0xC1, 0xF4});  // cvtpd2pi mm0, xmm1
  state.ymm[1].qword[0] = 0x7FF0'0000'0000'0000;
  state.fpu.mxcsr = 0x1F00;
  state.fpu.fsw = 0x3800;
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(exception(), kXm);
  EXPECT_EQ(state.fpu.mxcsr, 0x1F01U);
  EXPECT_EQ(state.fpu.fsw, 0);
  EXPECT_EQ(state.fpu.ftw, 0xFF);
}

DOPPEL_TEST_ON_EACH_ENGINE(MmxConversionError);

}  // namespace
}  // namespace doppel::engine::test
