#include "engine/guest_program.h"

/// A near branch of 16-bit code with an operand-size prefix cut its target to 16 bits, as AMD's processors do in 64-bit
/// code. It is a 32-bit branch.
namespace doppel::engine::test {
namespace {

class BranchOver64kWith66 : public OnEachEngine {
 protected:
  BranchOver64kWith66() {
    // A 16-bit code segment without a limit, in compatibility mode.
    state.seg(SegReg::Cs).attributes &= ~(Segment::kL | Segment::kDb);
  }

  static constexpr std::uint64_t kHere = 0x1'0000;
  void run_at_64k(std::initializer_list<unsigned> code) {
    place(kHere, code);
    place(kHere + 0x20, {0xF4});
    state.rip = kHere;
    ASSERT_EQ(run(), ExitReason::Halted);
    EXPECT_EQ(state.rip, kHere + 0x21);
  }
};

TEST_P(BranchOver64kWith66, Jump) {
  run_at_64k({0x66, 0xE9, 0x1A, 0x00, 0x00, 0x00});
}

TEST_P(BranchOver64kWith66, ConditionalJump) {
  state.set_rflags(x86::rflags::kZf);
  run_at_64k({0x66, 0x0F, 0x84, 0x19, 0x00, 0x00, 0x00});
}

TEST_P(BranchOver64kWith66, IndirectCall) {
  state.gpr[x86::kRax] = kHere + 0x20;
  run_at_64k({0x66, 0xFF, 0xD0});
  EXPECT_EQ(state.gpr[x86::kRsp], kStackTop - 4);
}

DOPPEL_TEST_ON_EACH_ENGINE(BranchOver64kWith66);

}  // namespace
}  // namespace doppel::engine::test
