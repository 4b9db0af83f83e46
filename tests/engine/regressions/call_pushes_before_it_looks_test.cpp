#include "engine/guest_program.h"

/// A call with a bad stack to a bad address raised the address's #GP; the push comes first.
namespace doppel::engine::test {
namespace {

class CallPushesBeforeItLooks : public OnEachEngine {};

TEST_P(CallPushesBeforeItLooks, RaisesTheStacksFault) {
  constexpr unsigned kPf = x86::vector::kPf;
  place(kCodeAddress, {0xFF, 0xD0, 0xF4});  // call rax
  state.gpr[x86::kRax] = 0x1234'0000'0000'0000;
  state.gpr[x86::kRsp] = 0x4000'1000;
  // The handler needs a stack of its own: IST 1 of a TSS.
  constexpr std::uint64_t kTss = 0x7000;
  poke_physical<std::uint64_t>(kTss + 36, kStackTop);
  state.tr = {kTss, 103, Segment::kP | 11, 0x18};
  poke_physical<std::uint8_t>(kIdtAddress + 16 * kPf + 4, 1);
  poke_physical<std::uint8_t>(kIdtAddress + 16 * x86::vector::kGp + 4, 1);
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(exception(), kPf);
  EXPECT_EQ(state.cr2, 0x4000'0FF8U);
}

DOPPEL_TEST_ON_EACH_ENGINE(CallPushesBeforeItLooks);

}  // namespace
}  // namespace doppel::engine::test
