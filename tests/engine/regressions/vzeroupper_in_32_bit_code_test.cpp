#include "engine/guest_program.h"

/// The translator's VZEROUPPER cleared YMM8 to YMM15 in 32-bit code, which has eight registers.
namespace doppel::engine::test {
namespace {

class VzeroupperIn32BitCode : public OnEachEngine {};

TEST_P(VzeroupperIn32BitCode, LeavesTheUpperEight) {
  place(kCodeAddress, {0xC5, 0xF8, 0x77, 0xF4});
  state.seg(SegReg::Cs) = flat_segment(0x08, true, false);
  for (x86::Ymm& ymm : state.ymm) ymm.qword = {1, 2, 3, 4};
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(state.ymm[7].qword, (std::array<std::uint64_t, 4>{1, 2, 0, 0}));
  EXPECT_EQ(state.ymm[8].qword, (std::array<std::uint64_t, 4>{1, 2, 3, 4}));
}

DOPPEL_TEST_ON_EACH_ENGINE(VzeroupperIn32BitCode);

}  // namespace
}  // namespace doppel::engine::test
