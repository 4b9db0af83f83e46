#include "engine/guest_program.h"

/// A branch to an address that is not canonical left on the stack what it had pushed, or had taken its operand off,
/// when its #GP came; a direct one to the next page even raised it at its target.
namespace doppel::engine::test {
namespace {

class BranchToNowhere : public OnEachEngine {
 protected:
  static constexpr std::uint64_t kBelowGap = 0x7FFF'FFFF'F000;  ///< the last page of the lower half
  static constexpr std::uint64_t kFrame = 6 * 8;                ///< what the handler finds on the stack
  static constexpr std::uint64_t kGlobal = bit(8);

  void expect_gp_at(std::uint64_t rip) {
    ASSERT_EQ(exception(), unsigned{x86::vector::kGp});
    EXPECT_EQ(faulting_rip(true), rip);
    EXPECT_EQ(peek_physical<std::uint64_t>(state.gpr[x86::kRsp] + 4 * 8), kStackTop);
    EXPECT_EQ(state.gpr[x86::kRsp], kStackTop - kFrame);
  }

  /// Maps the last page of the lower half to where the program is, by a 2 MiB page.
  void run_below_gap(std::uint64_t attributes, std::initializer_list<unsigned> code) {
    constexpr std::uint64_t kPresentWritable = 3, kLarge = 0x80, kPml4 = 0x1000, kPdpt = 0x6000, kPd = 0xA000;
    poke_physical<std::uint64_t>(kPml4 + 8 * 255, kPdpt | kPresentWritable);
    poke_physical<std::uint64_t>(kPdpt + 8 * 511, kPd | kPresentWritable);
    poke_physical<std::uint64_t>(kPd + 8 * 511, 0x40'0000 | kPresentWritable | kLarge | attributes);
    state.cr4 |= x86::cr4::kPge;
    place(0x5F'F000, code);
    state.rip = kBelowGap;
    ASSERT_EQ(run(), ExitReason::Halted);
  }
};

TEST_P(BranchToNowhere, IndirectCall) {
  place(kCodeAddress, {0xFF, 0xD0, 0xF4});  // call rax
  state.gpr[x86::kRax] = 0x1234'0000'0000'0000;
  ASSERT_EQ(run(), ExitReason::Halted);
  expect_gp_at(kCodeAddress);
}

TEST_P(BranchToNowhere, DirectCall) {
  run_below_gap(0, {0xE8, 0x00, 0x10, 0x00, 0x00});
  expect_gp_at(kBelowGap);
}

TEST_P(BranchToNowhere, DirectCallOutOfAGlobalPage) {
  run_below_gap(kGlobal, {0xE8, 0x00, 0x10, 0x00, 0x00});
  expect_gp_at(kBelowGap);
}

TEST_P(BranchToNowhere, DirectJumpOutOfAGlobalPage) {
  run_below_gap(kGlobal, {0xE9, 0x00, 0x10, 0x00, 0x00});
  expect_gp_at(kBelowGap);
}

TEST_P(BranchToNowhere, ConditionalJumpOutOfAGlobalPage) {
  state.set_rflags(x86::rflags::kZf);
  run_below_gap(kGlobal, {0x0F, 0x84, 0x00, 0x10, 0x00, 0x00});
  expect_gp_at(kBelowGap);
}

TEST_P(BranchToNowhere, Return) {
  place(kCodeAddress, {0xC2, 0x10, 0x00});  // ret 16
  state.gpr[x86::kRsp] = kStackTop;
  poke_physical<std::uint64_t>(kStackTop, 0x1234'0000'0000'0000);
  ASSERT_EQ(run(), ExitReason::Halted);
  expect_gp_at(kCodeAddress);
}

DOPPEL_TEST_ON_EACH_ENGINE(BranchToNowhere);

}  // namespace
}  // namespace doppel::engine::test
