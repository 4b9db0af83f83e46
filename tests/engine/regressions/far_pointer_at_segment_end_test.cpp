#include "engine/guest_program.h"

/// LDS of a pointer whose offset is the last word of a segment of 64 KiB raised #GP; its selector is the first word.
namespace doppel::engine::test {
namespace {

class FarPointerAtSegmentEnd : public OnEachEngine {
 protected:
  FarPointerAtSegmentEnd() {
    state.reset(false, true);
    Segment& cs = state.seg(SegReg::Cs);
    cs.base = 0x1'0000;
    cs.selector = 0x1000;
    state.rip = 0;
    state.seg(SegReg::Ds).base = kDataAddress;
    poke_physical<std::uint16_t>(kDataAddress + 0xFFFE, 0x1234);
    poke_physical<std::uint16_t>(kDataAddress, 0x5678);
  }
};

TEST_P(FarPointerAtSegmentEnd, Lds) {
  place(0x1'0000, {0xC5, 0x1E, 0xFE, 0xFF, 0xF4});  // lds bx, [0fffeh]
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(state.rip, 5U);
  EXPECT_EQ(state.gpr[x86::kRbx] & 0xFFFF, 0x1234U);
  EXPECT_EQ(state.seg(SegReg::Ds).selector, 0x5678U);
}

TEST_P(FarPointerAtSegmentEnd, CallFar) {
  place(0x1'0000, {0xFF, 0x1E, 0xFE, 0xFF});  // call far [0fffeh]
  place(0x5'6780 + 0x1234, {0xF4});
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(state.seg(SegReg::Cs).selector, 0x5678U);
  EXPECT_EQ(state.rip, 0x1235U);
}

DOPPEL_TEST_ON_EACH_ENGINE(FarPointerAtSegmentEnd);

}  // namespace
}  // namespace doppel::engine::test
