#include "engine/guest_program.h"

/// A branch to the one address whose tag stood for "nothing" in the translator's table of jump targets jumped to host
/// address 0.
namespace doppel::engine::test {
namespace {

class BranchToEmptySlot : public OnEachEngine {
 protected:
  void expect_gp_of_branch_to(std::uint64_t target) {
    place(kCodeAddress, {0xFF, 0xE0, 0xF4});  // jmp rax
    state.gpr[x86::kRax] = target;
    ASSERT_EQ(run(), ExitReason::Halted);
    ASSERT_EQ(exception(), unsigned{x86::vector::kGp});
    EXPECT_EQ(faulting_rip(true), std::uint64_t{kCodeAddress});
  }
};

TEST_P(BranchToEmptySlot, OldTag) {
  expect_gp_of_branch_to(0xC000'0000'0000'0000);
}

TEST_P(BranchToEmptySlot, Tag) {
  expect_gp_of_branch_to(0xC000'0000'0000'0001);
}

DOPPEL_TEST_ON_EACH_ENGINE(BranchToEmptySlot);

}  // namespace
}  // namespace doppel::engine::test
