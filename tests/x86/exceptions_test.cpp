#include "x86/exceptions.h"

#include "segmented_test.h"
#include "x86/control_registers.h"
#include "x86/events.h"

namespace doppel::x86::test {
namespace {

using namespace rflags;

class Exceptions : public SegmentedTest {
 protected:
  /// Handler of `vector`: its address tells it from the others.
  static std::uint64_t handler(unsigned vector) { return 0x5'0000 + vector * 0x100; }

  void set_all_gates() {
    for (unsigned vector = 0; vector < 256; ++vector)
      set_gate(static_cast<std::uint8_t>(vector), gate(kInterruptGate32, 3, kCode, handler(vector)));
  }
  /// Makes delivery of `vector` raise `second`: an absent gate is #NP, a null handler #GP, a bad one #GP.
  void break_gate(std::uint8_t vector, std::uint8_t second) {
    const bool present = second != vector::kNp;
    set_gate(vector, gate(kInterruptGate32, 3, second == vector::kGp ? std::uint16_t{0} : kCode, 0, 0, present));
  }
  unsigned delivered_vector() const { return static_cast<unsigned>((state.rip - 0x5'0000) / 0x100); }
};

TEST_F(Exceptions, SetRfForFaultsOnly) {
  enter_protected_mode(0);
  set_all_gates();
  struct Row {
    std::uint8_t vector;
    bool rf;
  };
  const Row rows[] = {{vector::kDe, true},  {vector::kUd, true},  {vector::kGp, true}, {vector::kPf, true},
                      {vector::kDb, false}, {vector::kDf, false}, {vector::kMc, false}};
  for (const Row& row : rows) {
    enter_protected_mode(0);
    deliver_exception(cpu, Fault{row.vector, false, 0, 0});
    const std::uint32_t error = row.vector == vector::kGp || row.vector == vector::kPf || row.vector == vector::kDf;
    const auto flags = peek_physical<std::uint32_t>(state.gpr[kRsp] + 8 + 4 * error);
    EXPECT_EQ((flags & kRf) != 0, row.rf) << int{row.vector};
  }
}

TEST_F(Exceptions, GeneralDetectIsAFaultAmongDebugExceptions) {
  enter_protected_mode(0);
  set_all_gates();
  state.dr7 |= 0x2000;
  EXPECT_EQ(fault_of([&] { read_debug_register(cpu, 7); }).vector, vector::kDb);
  EXPECT_EQ(state.dr6 & 0x2000, 0x2000U);
  EXPECT_EQ(state.dr7 & 0x2000, 0U);
  deliver_exception(cpu, Fault{vector::kDb});
  EXPECT_NE(peek_physical<std::uint32_t>(state.gpr[kRsp] + 8) & kRf, 0U);
}

// DR6.BD stays set until somebody clears it.
TEST_F(Exceptions, AnInstructionBreakpointAfterGeneralDetectSavesNoRf) {
  enter_protected_mode(0);
  set_all_gates();
  state.dr6 |= 0x2000;
  deliver_exception(cpu, Fault{vector::kDb});
  EXPECT_EQ(peek_physical<std::uint32_t>(state.gpr[kRsp] + 8) & kRf, 0U);
}

TEST_F(Exceptions, PageFaultsLoadCr2) {
  enter_protected_mode(0);
  set_all_gates();
  deliver_exception(cpu, Fault{vector::kPf, true, 2, 0x1234'5678});
  EXPECT_EQ(state.cr2, 0x1234'5678U);
  EXPECT_EQ(peek_physical<std::uint32_t>(state.gpr[kRsp]), 2U);
}

// SDM vol. 3, table 6-5; the second exception is #GP, from a null handler.
TEST_F(Exceptions, ASecondContributoryExceptionMakesADoubleFault) {
  struct Row {
    std::uint8_t first;
    unsigned delivered;
  };
  const Row rows[] = {
      {vector::kDe, vector::kDf}, {vector::kTs, vector::kDf}, {vector::kNp, vector::kDf}, {vector::kSs, vector::kDf},
      {vector::kPf, vector::kDf}, {vector::kDb, vector::kGp}, {vector::kUd, vector::kGp}, {vector::kNm, vector::kGp},
      {vector::kMf, vector::kGp}, {vector::kAc, vector::kGp}, {vector::kXm, vector::kGp}, {vector::kMc, vector::kGp},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(int{row.first});
    enter_protected_mode(0);
    set_all_gates();
    break_gate(row.first, vector::kGp);
    deliver_exception(cpu, Fault{row.first});
    EXPECT_EQ(delivered_vector(), row.delivered);
    EXPECT_EQ(peek_physical<std::uint32_t>(state.gpr[kRsp]), row.delivered == vector::kDf ? 0U : 1U);
  }
}

TEST_F(Exceptions, InterruptsAreBenign) {
  enter_protected_mode(0);
  set_all_gates();
  break_gate(vector::kGp + 0x20, vector::kNp);
  deliver_or_escalate(cpu, {vector::kGp + 0x20, EventType::ExternalInterrupt});
  EXPECT_EQ(delivered_vector(), unsigned{vector::kNp});
  EXPECT_EQ(peek_physical<std::uint32_t>(state.gpr[kRsp]), (vector::kGp + 0x20U) * 8 + 3);
  // An external interrupt with a contributory exception's number is still benign.
  enter_protected_mode(0);
  break_gate(vector::kGp, vector::kNp);
  deliver_or_escalate(cpu, {vector::kGp, EventType::ExternalInterrupt});
  EXPECT_EQ(delivered_vector(), unsigned{vector::kNp});
}

TEST_F(Exceptions, PageFaultsWhileDeliveringPageFaultsAreDoubleFaults) {
  enter_long_mode(3);
  for (unsigned vector = 0; vector < 32; ++vector)
    set_gate(static_cast<std::uint8_t>(vector), gate(kInterruptGate32, 3, kCode64, handler(vector)));
  // Level 0's stack is not mapped; #DF has one of its own.
  poke_physical<std::uint64_t>(kTss + 4, 0x4000'0000);
  set_gate(vector::kDf, gate(kInterruptGate32, 3, kCode64, handler(vector::kDf), 1));
  deliver_exception(cpu, Fault{vector::kPf, true, 4, 0x1000});
  EXPECT_EQ(delivered_vector(), unsigned{vector::kDf});
  EXPECT_EQ(state.cr2, 0x4000'0000U - 8);

  // A contributory exception first, then a page fault: no double fault.
  enter_long_mode(3);
  poke_physical<std::uint64_t>(kTss + 4, 0x4000'0000);
  set_gate(vector::kPf, gate(kInterruptGate32, 3, kCode64, handler(vector::kPf), 1));
  deliver_exception(cpu, Fault{vector::kGp, true, 0});
  EXPECT_EQ(delivered_vector(), unsigned{vector::kPf});
}

TEST_F(Exceptions, ATripleFaultShutsDown) {
  enter_protected_mode(0);
  state.idtr.limit = 0;
  EXPECT_THROW(deliver_exception(cpu, Fault{vector::kUd}), Shutdown);
  EXPECT_EQ(state.activity, Activity::Shutdown);
  EXPECT_THROW(service_events(cpu), Shutdown);
}

TEST_F(Exceptions, RealModeStackOverflowShutsDown) {
  enter_real_mode();
  state.gpr[kRsp] = 1;
  EXPECT_THROW(deliver_exception(cpu, Fault{vector::kSs}), Shutdown);
}

}  // namespace
}  // namespace doppel::x86::test
