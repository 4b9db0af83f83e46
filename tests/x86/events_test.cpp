#include "x86/events.h"

#include "segmented_test.h"
#include "x86/transfer.h"

namespace doppel::x86::test {
namespace {

using namespace rflags;

class Events : public SegmentedTest {
 protected:
  static constexpr std::uint64_t kDr6Bs = 0x4000;

  Events() { enter(); }

  /// Level 0 of long mode, interrupts enabled, handlers told apart by their addresses.
  void enter() {
    enter_long_mode(0);
    for (unsigned vector = 0; vector < 128; ++vector)
      set_gate(static_cast<std::uint8_t>(vector), gate(kInterruptGate32, 3, kCode64, handler(vector)));
    EXPECT_EQ(service_events(cpu), Boundary::Continue);  // the first call looks for interrupts by itself
  }
  static std::uint64_t handler(unsigned vector) { return 0x5'0000 + vector * 0x100; }

  void raise_interrupt(std::uint8_t vector) {
    io.interrupts.push_back(vector);
    attention.set(Attention::kInterrupt);
  }
};

TEST_F(Events, NothingToDo) {
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(state.rip, 0x7000U);
}

TEST_F(Events, DeliversAnInterruptAndClearsItsAttention) {
  raise_interrupt(0x30);
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(state.rip, handler(0x30));
  EXPECT_EQ(attention.pending(), 0U);
}

TEST_F(Events, AnInterruptWaitsForIf) {
  state.set_rflags(0);
  raise_interrupt(0x30);
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(state.rip, 0x7000U);
  EXPECT_EQ(attention.pending(), 0U);  // else the engine would spin
  state.set_rflags(kIf);
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(state.rip, handler(0x30));
}

TEST_F(Events, AnInterruptMayBeGoneByTheTimeItIsAskedFor) {
  attention.set(Attention::kInterrupt);
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(state.rip, 0x7000U);
}

TEST_F(Events, ASecondInterruptFollowsTheFirstHandlersReturn) {
  raise_interrupt(0x30);
  raise_interrupt(0x31);
  service_events(cpu);
  EXPECT_EQ(state.rip, handler(0x30));
  interrupt_return(cpu, 8);
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(state.rip, handler(0x31));
}

TEST_F(Events, ATrapGateLetsASecondInterruptInAtOnce) {
  set_gate(0x30, gate(kTrapGate32, 3, kCode64, handler(0x30)));
  raise_interrupt(0x30);
  raise_interrupt(0x31);
  EXPECT_EQ(service_events(cpu), Boundary::Step);
  EXPECT_EQ(state.rip, handler(0x30));
  service_events(cpu);
  EXPECT_EQ(state.rip, handler(0x31));
}

TEST_F(Events, StiHoldsInterruptsOffForOneInstruction) {
  raise_interrupt(0x30);
  state.sti_shadow = true;
  EXPECT_EQ(service_events(cpu), Boundary::Step);
  EXPECT_EQ(state.rip, 0x7000U);
  EXPECT_FALSE(state.sti_shadow);
  service_events(cpu);
  EXPECT_EQ(state.rip, handler(0x30));
}

TEST_F(Events, StiThenCliLetsNothingIn) {
  raise_interrupt(0x30);
  state.sti_shadow = true;
  EXPECT_EQ(service_events(cpu), Boundary::Step);
  state.set_rflags(0);  // the one instruction is CLI
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(state.rip, 0x7000U);
}

TEST_F(Events, StiThenHltWakesAndReturnsBehindHlt) {
  raise_interrupt(0x30);
  state.sti_shadow = true;
  service_events(cpu);
  state.rip = 0x7001;
  state.activity = Activity::Halted;
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(state.activity, Activity::Running);
  EXPECT_EQ(state.rip, handler(0x30));
  EXPECT_EQ(peek_physical<std::uint64_t>(state.gpr[kRsp]), 0x7001U);
}

TEST_F(Events, AShadowWithNothingBehindItCostsNoStep) {
  state.sti_shadow = true;
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
}

TEST_F(Events, StiDoesNotHoldNmisOff) {
  state.sti_shadow = true;
  attention.set(Attention::kNmi);
  service_events(cpu);
  EXPECT_EQ(state.rip, handler(vector::kNmi));
}

TEST_F(Events, ALoadOfSsHoldsDebugTrapsNmisAndInterruptsOff) {
  raise_interrupt(0x30);
  attention.set(Attention::kNmi);
  state.pending_debug = 1;
  state.ss_shadow = true;
  EXPECT_EQ(service_events(cpu), Boundary::Step);
  EXPECT_EQ(state.rip, 0x7000U);
  service_events(cpu);
  // #DB was first; the NMI came on top of it; interrupts are disabled by then.
  EXPECT_EQ(state.rip, handler(vector::kNmi));
  EXPECT_EQ(peek_physical<std::uint64_t>(state.gpr[kRsp]), handler(vector::kDb));
  EXPECT_EQ(state.dr6 & 0xF, 1U);
}

TEST_F(Events, NmisAreBlockedUntilIret) {
  attention.set(Attention::kNmi);
  service_events(cpu);
  EXPECT_EQ(state.rip, handler(vector::kNmi));
  EXPECT_TRUE(state.nmi_blocked);
  attention.set(Attention::kNmi);
  state.rip = 0x8888;
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(state.rip, 0x8888U);
  EXPECT_EQ(attention.pending(), 0U);
  interrupt_return(cpu, 8);
  service_events(cpu);
  EXPECT_EQ(state.rip, handler(vector::kNmi));
}

TEST_F(Events, HaltedUntilSomethingArrives) {
  state.activity = Activity::Halted;
  EXPECT_EQ(service_events(cpu), Boundary::Idle);
  state.set_rflags(0);
  raise_interrupt(0x30);
  EXPECT_EQ(service_events(cpu), Boundary::Idle);  // CLI; HLT
  attention.set(Attention::kNmi);
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(state.rip, handler(vector::kNmi));
}

TEST_F(Events, StopComesFirstAndLosesNothing) {
  raise_interrupt(0x30);
  state.sti_shadow = true;
  attention.set(Attention::kStop);
  EXPECT_EQ(service_events(cpu), Boundary::Stop);
  EXPECT_EQ(attention.pending(), std::uint32_t{Attention::kInterrupt});
  EXPECT_TRUE(state.sti_shadow);
  EXPECT_EQ(service_events(cpu), Boundary::Step);
}

TEST_F(Events, InitSendsAnApplicationProcessorToWaitForSipi) {
  io.apic_msrs[0x1B] = 0xFEE0'0800;
  attention.set(Attention::kInit);
  raise_interrupt(0x30);
  EXPECT_EQ(service_events(cpu), Boundary::Idle);
  EXPECT_EQ(state.activity, Activity::WaitForSipi);
  EXPECT_EQ(io.local_apic_resets, 1U);
  EXPECT_FALSE(state.protected_mode());
  EXPECT_EQ(attention.pending(), 0U);  // a waiting processor sleeps

  attention.post_sipi(0x9A);
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(state.activity, Activity::Running);
  EXPECT_EQ(selector(SegReg::Cs), 0x9A00);
  EXPECT_EQ(state.seg(SegReg::Cs).base, 0x9A000U);
  EXPECT_EQ(state.rip, 0U);

  state.rip = 0x55;
  attention.post_sipi(0x10);  // the second of the pair is ignored
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(state.rip, 0x55U);
  EXPECT_EQ(attention.pending(), 0U);
}

TEST_F(Events, InitAndSipiTogether) {
  attention.set(Attention::kInit);
  attention.post_sipi(8);
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(state.seg(SegReg::Cs).base, 0x8000U);
}

TEST_F(Events, InitSendsTheBootstrapProcessorToTheResetVector) {
  io.apic_msrs[0x1B] = 0xFEE0'0900;
  attention.set(Attention::kInit);
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(state.rip, 0xFFF0U);
  EXPECT_EQ(state.seg(SegReg::Cs).base, 0xFFFF'0000U);
}

TEST_F(Events, NmiDoesNotWakeAProcessorThatWaitsForSipi) {
  state.activity = Activity::WaitForSipi;
  attention.set(Attention::kNmi);
  EXPECT_EQ(service_events(cpu), Boundary::Idle);
  EXPECT_EQ(state.activity, Activity::WaitForSipi);
}

TEST_F(Events, SingleStepTrapsAfterEachInstruction) {
  state.set_rflags(kTf);
  EXPECT_EQ(service_events(cpu), Boundary::Step);
  begin_step(cpu);
  state.rip = 0x7003;
  end_step(cpu);
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(state.rip, handler(vector::kDb));
  EXPECT_EQ(peek_physical<std::uint64_t>(state.gpr[kRsp]), 0x7003U);
  EXPECT_EQ(state.rflags() & kTf, 0U);
  EXPECT_NE(state.dr6 & kDr6Bs, 0U);
}

TEST_F(Events, TheInstructionThatSetsTfDoesNotTrap) {
  begin_step(cpu);
  state.set_rflags(kTf);
  end_step(cpu);
  EXPECT_EQ(service_events(cpu), Boundary::Step);
  EXPECT_EQ(state.rip, 0x7000U);
}

TEST_F(Events, SystemCallsAreSteppedOver) {
  enter_long_mode(3);
  state.star = 0x0033'0038'0000'0000;
  state.sfmask = kTf;
  state.set_rflags(kTf);
  begin_step(cpu);
  syscall(cpu);
  end_step(cpu);
  EXPECT_EQ(state.pending_debug, 0U);
  begin_step(cpu);
  sysret(cpu, 8);
  end_step(cpu);
  EXPECT_EQ(state.pending_debug, kDr6Bs);
}

TEST_F(Events, InstructionBreakpointsFaultUnlessRfIsSet) {
  state.dr[2] = 0x7000;
  state.dr7 |= 0x10;
  EXPECT_EQ(service_events(cpu), Boundary::Step);
  EXPECT_FAULT(vector::kDb, begin_step(cpu));
  EXPECT_EQ(state.dr6 & 0xF, 4U);

  state.set_rflags(state.rflags() | kRf);
  EXPECT_EQ(service_events(cpu), Boundary::Step);
  begin_step(cpu);
  EXPECT_EQ(state.rflags() & kRf, 0U);
  EXPECT_FAULT(vector::kDb, begin_step(cpu));
}

TEST_F(Events, DataBreakpointsNeedNoStepping) {
  state.dr[0] = 0x7000;
  state.dr7 |= 0x1'0001;
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
}

TEST_F(Events, InstructionBreakpointsAreHeldOffBehindALoadOfSs) {
  state.dr[0] = 0x7000;
  state.dr7 |= 1;
  state.ss_shadow = true;
  EXPECT_EQ(service_events(cpu), Boundary::Step);
  begin_step(cpu);
}

TEST_F(Events, InstructionBreakpointsCompareLinearAddresses) {
  enter_protected_mode(0);
  state.cr0 &= ~cr0::kPg;
  state.efer = 0;
  state.seg(SegReg::Cs).base = 0x1000;
  state.dr[0] = 0x8000;
  state.dr7 |= 1;
  EXPECT_FAULT(vector::kDb, begin_step(cpu));
}

TEST_F(Events, RfEndsAtOnceWithoutBreakpoints) {
  state.set_rflags(kRf | kIf);
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(state.rflags() & kRf, 0U);
}

TEST_F(Events, AnInterruptedRepeatPushesRf) {
  state.set_rflags(kRf | kIf);
  raise_interrupt(0x30);
  service_events(cpu);
  EXPECT_NE(peek_physical<std::uint64_t>(state.gpr[kRsp] + 16) & kRf, 0U);
}

TEST_F(Events, AResumedMachineTellsKvmclock) {
  constexpr std::uint64_t kInfo = 0xD000;
  constexpr std::uint8_t kGuestStopped = 2;
  state.kvm_system_time = kInfo | 1;
  attention.set(Attention::kResumed);
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(attention.pending(), 0U);
  EXPECT_EQ(peek_physical<std::uint8_t>(kInfo + 29) & kGuestStopped, kGuestStopped);
}

TEST_F(Events, AReplacedStateAsksForInterruptsAgain) {
  io.interrupts.push_back(0x30);
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(state.rip, 0x7000U) << "nobody has said that there is one";
  state_replaced(cpu);
  EXPECT_EQ(service_events(cpu), Boundary::Continue);
  EXPECT_EQ(state.rip, handler(0x30));
}

}  // namespace
}  // namespace doppel::x86::test
