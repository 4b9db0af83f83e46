#include "engine/guest_program.h"

/// With TF set, REP STOS filled the page before it trapped; it traps after each iteration.
namespace doppel::engine::test {
namespace {

class SingleStepInRepStos : public OnEachEngine {};

TEST_P(SingleStepInRepStos, TrapsAfterEach) {
  constexpr unsigned kDb = x86::vector::kDb;
  place(kCodeAddress, {0xF3, 0xAA, 0xF4});
  state.gpr[x86::kRcx] = 100;
  state.gpr[x86::kRdi] = kDataAddress;
  state.rflags_without_of |= x86::rflags::kTf;
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(exception(), kDb);
  EXPECT_EQ(state.gpr[x86::kRcx], 99U);
  EXPECT_EQ(state.gpr[x86::kRdi], kDataAddress + 1);
  EXPECT_EQ(faulting_rip(), kCodeAddress);
}

DOPPEL_TEST_ON_EACH_ENGINE(SingleStepInRepStos);

}  // namespace
}  // namespace doppel::engine::test
