#include "engine/guest_program.h"

/// MOVAPS to a misaligned address in an absent page raised #PF; #GP goes first.
namespace doppel::engine::test {
namespace {

class MisalignedBeforePageFault : public GuestProgram, public ::testing::WithParamInterface<EngineName> {
 protected:
  MisalignedBeforePageFault() : GuestProgram(GetParam()) {}
};

TEST_P(MisalignedBeforePageFault, RaisesGp) {
  constexpr unsigned kGp = x86::vector::kGp;
  // movaps xmm0, [40000001h]: long_mode() maps one gigabyte
  place(kCodeAddress, {0x0F, 0x28, 0x04, 0x25, 0x01, 0x00, 0x00, 0x40, 0xF4});
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(exception(), kGp);
  EXPECT_EQ(state.cr2, 0U);
}

TEST_P(MisalignedBeforePageFault, MovupsRaisesPf) {
  constexpr unsigned kPf = x86::vector::kPf;
  place(kCodeAddress, {0x0F, 0x10, 0x04, 0x25, 0x01, 0x00, 0x00, 0x40, 0xF4});
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(exception(), kPf);
  EXPECT_EQ(state.cr2, 0x4000'0001U);
}

DOPPEL_TEST_ON_EACH_ENGINE(MisalignedBeforePageFault);

}  // namespace
}  // namespace doppel::engine::test
