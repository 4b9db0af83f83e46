#include "engine/guest_program.h"

/// LAR cleared bits 16 to 19; processors leave there what the descriptor has.
namespace doppel::engine::test {
namespace {

class LarUndefinedBits : public OnEachEngine {};

TEST_P(LarUndefinedBits, AreTheDescriptors) {
  place(kCodeAddress, {0x0F, 0x02, 0xC1, 0xF4});
  state.gpr[x86::kRcx] = 0x08;
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(state.gpr[x86::kRax], 0x00AF'9B00U);
}

DOPPEL_TEST_ON_EACH_ENGINE(LarUndefinedBits);

}  // namespace
}  // namespace doppel::engine::test
