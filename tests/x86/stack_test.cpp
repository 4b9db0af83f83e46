#include "x86/stack.h"

#include "segmented_test.h"

namespace doppel::x86::test {
namespace {

using Stack = SegmentedTest;

TEST_F(Stack, WidthFollowsModeAndStackSegment) {
  enter_real_mode();
  EXPECT_EQ(stack_address_size(state), 2U);
  enter_protected_mode(0);
  EXPECT_EQ(stack_address_size(state), 4U);
  state.seg(SegReg::Ss).attributes &= ~Segment::kDb;
  EXPECT_EQ(stack_address_size(state), 2U);
  enter_long_mode(0);
  EXPECT_EQ(stack_address_size(state), 8U);
  enter_long_mode(3, true);
  EXPECT_EQ(stack_address_size(state), 4U);
}

TEST_F(Stack, PushAndPopOfEachSize) {
  enter_long_mode(0);
  for (const unsigned size : {2U, 4U, 8U}) {
    push(cpu, 0x1122'3344'5566'7788, size);
    EXPECT_EQ(state.gpr[kRsp], kStack - size);
    EXPECT_EQ(pop(cpu, size), 0x1122'3344'5566'7788 & low_mask(size * 8));
    EXPECT_EQ(state.gpr[kRsp], kStack);
  }
}

TEST_F(Stack, A16BitStackWrapsAndKeepsTheUpperHalf) {
  enter_protected_mode(0);
  state.seg(SegReg::Ss).attributes &= ~Segment::kDb;
  state.gpr[kRsp] = 0x1234'0000;
  push(cpu, 0xABCD, 2);
  EXPECT_EQ(state.gpr[kRsp], 0x1234'FFFEU);
  EXPECT_EQ(peek_physical<std::uint16_t>(0xFFFE), 0xABCD);
  EXPECT_EQ(pop(cpu, 2), 0xABCDU);
  EXPECT_EQ(state.gpr[kRsp], 0x1234'0000U);
}

TEST_F(Stack, PeekLooksAboveTheTop) {
  enter_protected_mode(0);
  push_words(4, {11, 22, 33});
  EXPECT_EQ(peek(cpu, 0, 4), 33U);
  EXPECT_EQ(peek(cpu, 8, 4), 11U);
  EXPECT_EQ(state.gpr[kRsp], kStack - 12);
}

TEST_F(Stack, FaultsLeaveThePointerAlone) {
  enter_protected_mode(0);
  state.seg(SegReg::Ss).limit = 0x7FFF;
  EXPECT_FAULT_CODE(vector::kSs, 0, push(cpu, 1, 4));
  EXPECT_FAULT_CODE(vector::kSs, 0, pop(cpu, 4));
  EXPECT_EQ(state.gpr[kRsp], kStack);
  enter_long_mode(0);
  state.gpr[kRsp] = 0x8000'0000'0000;
  EXPECT_FAULT_CODE(vector::kSs, 0, pop(cpu, 8));
  EXPECT_FAULT(vector::kPf, push(cpu, 1, 8));
  EXPECT_EQ(state.gpr[kRsp], 0x8000'0000'0000U);
}

TEST_F(Stack, A32BitPointerClearsTheUpperHalfOfRsp) {
  enter_long_mode(3, true);
  state.gpr[kRsp] = 0xFFFF'FFFF'0000'9000;
  add_to_stack_pointer(state, -4);
  EXPECT_EQ(state.gpr[kRsp], 0x8FFCU);
}

}  // namespace
}  // namespace doppel::x86::test
