#include "engine/guest_program.h"

/// REP MOVS with both addresses bad raised the destination's fault; the source is read first.
namespace doppel::engine::test {
namespace {

class MovsReadsBeforeItWrites : public OnEachEngine {};

TEST_P(MovsReadsBeforeItWrites, RaisesTheSourcesFault) {
  constexpr unsigned kPf = x86::vector::kPf;
  place(kCodeAddress, {0xF3, 0xA5, 0xF4});
  state.gpr[x86::kRcx] = 100;
  state.gpr[x86::kRsi] = 0x4000'0000;
  state.gpr[x86::kRdi] = 0x1234'0000'0000'0000;
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(exception(), kPf);
  EXPECT_EQ(state.cr2, 0x4000'0000U);
}

DOPPEL_TEST_ON_EACH_ENGINE(MovsReadsBeforeItWrites);

}  // namespace
}  // namespace doppel::engine::test
