#include "engine/guest_program.h"

/// ENTER with 66H set all of RBP; it sets BP.
namespace doppel::engine::test {
namespace {

class EnterOperandSizePrefix : public OnEachEngine {};

TEST_P(EnterOperandSizePrefix, SetsBp) {
  place(kCodeAddress, {0x66, 0xC8, 0x00, 0x00, 0x00, 0xF4});
  state.gpr[x86::kRbp] = 0x1111'2222'3333'4444;
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(state.gpr[x86::kRbp], 0x1111'2222'3333'0000U | ((kStackTop - 2) & 0xFFFF));
}

DOPPEL_TEST_ON_EACH_ENGINE(EnterOperandSizePrefix);

}  // namespace
}  // namespace doppel::engine::test
