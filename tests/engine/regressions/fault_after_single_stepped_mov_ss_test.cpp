#include "engine/guest_program.h"

/// The single step that a load of SS holds back was raised in the handler of the next instruction's fault; it is lost.
namespace doppel::engine::test {
namespace {

class FaultAfterSingleSteppedMovSs : public OnEachEngine {};

TEST_P(FaultAfterSingleSteppedMovSs, IsNotTrapped) {
  constexpr unsigned kUd = x86::vector::kUd;
  place(kCodeAddress, {0x8E, 0xD0, 0x0F, 0x0B});  // MOV SS, EAX; UD2
  state.rip = kCodeAddress;
  state.gpr[x86::kRax] = state.seg(x86::SegReg::Ss).selector;
  state.rflags_without_of |= x86::rflags::kTf;
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(exception(), kUd);
  EXPECT_EQ(faulting_rip(), kCodeAddress + 2);
  EXPECT_EQ(state.pending_debug, 0U);
}

TEST_P(FaultAfterSingleSteppedMovSs, TheNextInstructionIs) {
  constexpr unsigned kDb = x86::vector::kDb;
  place(kCodeAddress, {0x8E, 0xD0, 0x90, 0x90});  // MOV SS, EAX; NOP; NOP
  state.rip = kCodeAddress;
  state.gpr[x86::kRax] = state.seg(x86::SegReg::Ss).selector;
  state.rflags_without_of |= x86::rflags::kTf;
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(exception(), kDb);
  EXPECT_EQ(faulting_rip(), kCodeAddress + 3);
}

DOPPEL_TEST_ON_EACH_ENGINE(FaultAfterSingleSteppedMovSs);

}  // namespace
}  // namespace doppel::engine::test
