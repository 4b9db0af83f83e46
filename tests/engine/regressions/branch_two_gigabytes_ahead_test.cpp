#include "engine/guest_program.h"

/// A call of translated user code almost 2 GiB ahead, counted from the start of its page more than that, went backward;
/// so did a RIP-relative operand.
namespace doppel::engine::test {
namespace {

class BranchTwoGigabytesAhead : public OnEachEngine {
 protected:
  BranchTwoGigabytesAhead() {
    // User code in the page's end, and a stack for the handlers.
    constexpr std::uint64_t kPml4 = 0x1000, kPdpt = 0x2000, kPd = 0x3000, kUser = 4, kTss = 0x7000;
    for (const std::uint64_t entry : {kPml4, kPdpt}) poke_physical(entry, peek_physical<std::uint64_t>(entry) | kUser);
    poke_physical(kPd, peek_physical<std::uint64_t>(kPd) | kUser);
    poke_physical<std::uint64_t>(kTss + 4, kStackTop);
    state.tr = {kTss, 103, Segment::kP | 11, 0x18};
    for (const SegReg reg : {SegReg::Cs, SegReg::Ss}) {
      state.seg(reg).attributes |= 3U << 5;
      state.seg(reg).selector |= 3;
    }
    state.rip = kHere;
  }

  static constexpr std::uint64_t kHere = 0x10'0F00;
};

TEST_P(BranchTwoGigabytesAhead, Call) {
  place(kHere, {0xE8, 0x00, 0xFF, 0xFF, 0x7F});
  ASSERT_EQ(run(), ExitReason::Halted);
  ASSERT_EQ(exception(), unsigned{x86::vector::kPf});
  EXPECT_EQ(state.cr2, kHere + 5 + 0x7FFF'FF00);
}

TEST_P(BranchTwoGigabytesAhead, Operand) {
  place(kHere, {0x8B, 0x05, 0x00, 0xFF, 0xFF, 0x7F});  // mov eax, [rip + …]
  ASSERT_EQ(run(), ExitReason::Halted);
  ASSERT_EQ(exception(), unsigned{x86::vector::kPf});
  EXPECT_EQ(state.cr2, kHere + 6 + 0x7FFF'FF00);
}

DOPPEL_TEST_ON_EACH_ENGINE(BranchTwoGigabytesAhead);

}  // namespace
}  // namespace doppel::engine::test
