#include "engine/guest_program.h"

/// F3 90 with REX.B was PAUSE; it is XCHG R8, RAX.
namespace doppel::engine::test {
namespace {

class PauseWithRexB : public OnEachEngine {};

TEST_P(PauseWithRexB, Exchanges) {
  place(kCodeAddress, {0xF3, 0x49, 0x90, 0xF4});
  state.gpr[x86::kRax] = 1;
  state.gpr[x86::kR8] = 2;
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(state.gpr[x86::kRax], 2U);
  EXPECT_EQ(state.gpr[x86::kR8], 1U);
}

DOPPEL_TEST_ON_EACH_ENGINE(PauseWithRexB);

}  // namespace
}  // namespace doppel::engine::test
