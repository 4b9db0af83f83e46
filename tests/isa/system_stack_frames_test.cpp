#include "isa/system_fixture.h"

namespace doppel::isa {
namespace {

using x86::vector::kSs;

class SystemStackFrames : public test::SystemTest {};

TEST_F(SystemStackFrames, EnterAndLeave) {
  gpr(x86::kRbp) = 0x1111;
  execute({0xC8, 0x20, 0x00, 0x00});  // enter 20h, 0
  EXPECT_EQ(gpr(x86::kRbp), kStackTop - 8);
  EXPECT_EQ(gpr(x86::kRsp), kStackTop - 8 - 0x20);
  EXPECT_EQ(peek<std::uint64_t>(kStackTop - 8), 0x1111U);
  execute({0xC9});
  EXPECT_EQ(gpr(x86::kRbp), 0x1111U);
  EXPECT_EQ(gpr(x86::kRsp), kStackTop);
}

TEST_F(SystemStackFrames, NestedEnterCopiesTheDisplay) {
  enter_protected_32(0);
  gpr(x86::kRbp) = 0x6000;
  poke_physical<std::uint32_t>(0x6000 - 4, 0xAAAA);
  poke_physical<std::uint32_t>(0x6000 - 8, 0xBBBB);
  execute({0xC8, 0x10, 0x00, 0x03});  // enter 10h, 3
  const auto word = [this](std::uint64_t depth) { return peek<std::uint32_t>(kStackTop - depth); };
  EXPECT_EQ(word(4), 0x6000U);
  EXPECT_EQ(word(8), 0xAAAAU);
  EXPECT_EQ(word(12), 0xBBBBU);
  EXPECT_EQ(word(16), kStackTop - 4);
  EXPECT_EQ(gpr(x86::kRbp), kStackTop - 4);
  EXPECT_EQ(gpr(x86::kRsp), kStackTop - 16 - 0x10);
}

TEST_F(SystemStackFrames, AFaultLeavesBothPointers) {
  enter_protected_32(0);
  cpu.state.seg(x86::SegReg::Ss).limit = 0x7FFF;
  gpr(x86::kRbp) = 0x9000;
  EXPECT_FAULT_CODE(kSs, 0, execute({0xC8, 0x00, 0x00, 0x02}));
  EXPECT_EQ(gpr(x86::kRsp), kStackTop);
  EXPECT_EQ(gpr(x86::kRbp), 0x9000U);
  EXPECT_FAULT_CODE(kSs, 0, execute({0xC9}));
  EXPECT_EQ(gpr(x86::kRsp), kStackTop);
  EXPECT_EQ(gpr(x86::kRbp), 0x9000U);
}

TEST_F(SystemStackFrames, LeaveWithA16BitOperandKeepsTheUpperPartOfEbp) {
  enter_protected_32(0);
  gpr(x86::kRbp) = 0x6000;
  poke_physical<std::uint32_t>(0x6000, 0xFFFF'1234);
  execute({0x66, 0xC9});
  EXPECT_EQ(gpr(x86::kRbp), 0x1234U);
  EXPECT_EQ(gpr(x86::kRsp), 0x6002U);
}

TEST_F(SystemStackFrames, PushaStoresTheOldStackPointerAndPopaSkipsIt) {
  enter_protected_32(0);
  for (unsigned i = 0; i < 8; ++i)
    if (i != x86::kRsp) cpu.state.gpr[i] = 0x100 + i;
  execute({0x60});
  EXPECT_EQ(gpr(x86::kRsp), kStackTop - 32);
  EXPECT_EQ(peek<std::uint32_t>(kStackTop - 4), 0x100U) << "EAX first";
  EXPECT_EQ(peek<std::uint32_t>(kStackTop - 20), kStackTop) << "ESP before the instruction";
  EXPECT_EQ(peek<std::uint32_t>(kStackTop - 32), 0x107U) << "EDI last";
  poke_physical<std::uint32_t>(kStackTop - 20, 0xDEAD);
  for (unsigned i = 0; i < 8; ++i)
    if (i != x86::kRsp) cpu.state.gpr[i] = 0;
  execute({0x61});
  for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(cpu.state.gpr[i], i == x86::kRsp ? kStackTop : 0x100 + i);
}

TEST_F(SystemStackFrames, PushaThatRunsOutOfStackMovesNothing) {
  enter_protected_32(0);
  cpu.state.seg(x86::SegReg::Ss).limit = 0xFFF;
  gpr(x86::kRsp) = 0x1010;
  EXPECT_FAULT_CODE(kSs, 0, execute({0x60}));
  EXPECT_EQ(gpr(x86::kRsp), 0x1010U);
}

}  // namespace
}  // namespace doppel::isa
