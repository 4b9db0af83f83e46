#include "engine/guest_program.h"

/// FENI, FDISI and FSETPM, which do nothing, reported pending x87 errors.
namespace doppel::engine::test {
namespace {

class FeniWaitsForNoError : public OnEachEngine {};

TEST_P(FeniWaitsForNoError, DoesNothing) {
  place(kCodeAddress, {0xDB, 0xE0, 0xDB, 0xE1, 0xDB, 0xE4, 0xF4});
  state.fpu.fcw = 0x37E;
  state.fpu.fsw = 0x8081;
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_FALSE(exception());
}

DOPPEL_TEST_ON_EACH_ENGINE(FeniWaitsForNoError);

}  // namespace
}  // namespace doppel::engine::test
