#include "engine/guest_program.h"

/// A call to an address that is not canonical, read from where the call's own push goes: the translator found out after
/// the push, and read the operand again.
namespace doppel::engine::test {
namespace {

class CallOverItsOperand : public OnEachEngine {};

TEST_P(CallOverItsOperand, RaisesGp) {
  place(kCodeAddress, {0xFF, 0x54, 0x24, 0xF8, 0xF4});  // call [rsp - 8]
  poke_physical<std::uint64_t>(kStackTop - 8, 0x1234'0000'0000'0000);
  ASSERT_EQ(run(), ExitReason::Halted);
  ASSERT_EQ(exception(), unsigned{x86::vector::kGp});
  EXPECT_EQ(faulting_rip(true), std::uint64_t{kCodeAddress});
}

DOPPEL_TEST_ON_EACH_ENGINE(CallOverItsOperand);

}  // namespace
}  // namespace doppel::engine::test
