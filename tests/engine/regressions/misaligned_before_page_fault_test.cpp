#include "engine/guest_program.h"

/// MOVAPS to a misaligned address in an absent page raised #PF; #GP goes first.
namespace doppel::engine::test {
namespace {

class MisalignedBeforePageFault : public OnEachEngine {};

TEST_P(MisalignedBeforePageFault, RaisesGp) {
  // movaps xmm0, [40000001h]: long_mode() maps one gigabyte
  place(kCodeAddress, {0x0F, 0x28, 0x04, 0x25, 0x01, 0x00, 0x00, 0x40, 0xF4});
  EXPECT_EQ(exception_of(kCodeAddress), unsigned{x86::vector::kGp});
  EXPECT_EQ(state.cr2, 0U);
}

TEST_P(MisalignedBeforePageFault, MovupsRaisesPf) {
  place(kCodeAddress, {0x0F, 0x10, 0x04, 0x25, 0x01, 0x00, 0x00, 0x40, 0xF4});
  EXPECT_EQ(exception_of(kCodeAddress), unsigned{x86::vector::kPf});
  EXPECT_EQ(state.cr2, 0x4000'0001U);
}

DOPPEL_TEST_ON_EACH_ENGINE(MisalignedBeforePageFault);

}  // namespace
}  // namespace doppel::engine::test
