#include "engine/guest_program.h"

/// LEAVE had changed RSP when it faulted, if RBP was no canonical address but all of its lower bits those of a page
/// that had been read before.
namespace doppel::engine::test {
namespace {

class LeaveToNowhere : public OnEachEngine {};

TEST_P(LeaveToNowhere, ChangesNothing) {
  // mov eax, [rbx]; leave; hlt
  place(kCodeAddress, {0x8B, 0x03, 0xC9, 0xF4});
  state.gpr[x86::kRbx] = 0x2000;
  state.gpr[x86::kRbp] = 0xFFE0'0000'0000'2000;
  ASSERT_EQ(run(), ExitReason::Halted);
  ASSERT_EQ(exception(), unsigned{x86::vector::kSs});
  EXPECT_EQ(faulting_rip(true), kCodeAddress + 2);
  EXPECT_EQ(peek_physical<std::uint64_t>(state.gpr[x86::kRsp] + 4 * 8), kStackTop);
  EXPECT_EQ(state.gpr[x86::kRbp], 0xFFE0'0000'0000'2000);
}

DOPPEL_TEST_ON_EACH_ENGINE(LeaveToNowhere);

}  // namespace
}  // namespace doppel::engine::test
