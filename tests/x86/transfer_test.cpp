#include "x86/transfer.h"

#include "segmented_test.h"

namespace doppel::x86::test {
namespace {

class Transfer : public SegmentedTest {
 protected:
  static constexpr std::uint16_t kGate = 0x90, kUserGate = 0x93, kTarget = 0xA0;

  template <class T>
  T stack_value(std::uint64_t depth) {
    return peek_physical<T>(state.gpr[kRsp] + depth);
  }
};

TEST_F(Transfer, RealModeJumpsToSegmentTimes16) {
  enter_real_mode();
  far_jump(cpu, 0xF000, 0x1234, 2);
  EXPECT_EQ(selector(SegReg::Cs), 0xF000);
  EXPECT_EQ(state.seg(SegReg::Cs).base, 0xF0000U);
  EXPECT_EQ(state.rip, 0x1234U);
  EXPECT_FAULT(vector::kGp, far_jump(cpu, 0xF000, 0x10000, 4));
}

TEST_F(Transfer, RealModeCallsPushCsAndIp) {
  enter_real_mode();
  state.rip = 0x7C05;
  far_call(cpu, 0x2000, 0x10, 2);
  EXPECT_EQ(state.gpr[kRsp], kStack - 4);
  EXPECT_EQ(stack_value<std::uint16_t>(0), 0x7C05);
  EXPECT_EQ(stack_value<std::uint16_t>(2), 0);
  EXPECT_EQ(state.seg(SegReg::Cs).base, 0x20000U);
}

TEST_F(Transfer, Virtual8086JumpsLikeRealMode) {
  enter_virtual_8086_mode(0);
  far_jump(cpu, 0x1234, 0x56, 2);
  EXPECT_EQ(state.seg(SegReg::Cs).base, 0x12340U);
  EXPECT_EQ(state.cpl(), 3U);
}

// SDM vol. 3, 5.8.1.
TEST_F(Transfer, ChecksDirectTransfersToCodeSegments) {
  struct Row {
    unsigned cpl;
    std::uint16_t selector;
    std::uint32_t attributes;
    int vector;
  };
  constexpr std::uint32_t kConformingCode = kCodeAttributes | 4;
  const Row rows[] = {
      {0, kTarget, kCodeAttributes, 0xFF},
      {3, kTarget | 3, with_dpl(kCodeAttributes, 3), 0xFF},
      {3, kTarget, with_dpl(kCodeAttributes, 3), 0xFF},  // RPL below CPL: fine
      {0, kTarget | 3, kCodeAttributes, vector::kGp},    // RPL above CPL
      {3, kTarget, kCodeAttributes, vector::kGp},        // more privileged, not conforming
      {0, kTarget, with_dpl(kCodeAttributes, 3), vector::kGp},
      {3, kTarget | 3, kConformingCode, 0xFF},
      {0, kTarget, with_dpl(kConformingCode, 3), vector::kGp},
      {0, kTarget, kDataAttributes, vector::kGp},
      {0, kTarget, kCodeAttributes & ~Segment::kP, vector::kNp},
      {0, kTarget, kPresent | kLdt, vector::kGp},
      {0, kTarget, kPresent | kInterruptGate32, vector::kGp},
      {0, 0x208, 0, vector::kGp},
  };
  for (const Row& row : rows) {
    for (const bool call : {false, true}) {
      SCOPED_TRACE(::testing::Message() << std::hex << row.selector << " " << row.attributes << " CPL " << row.cpl);
      enter_protected_mode(row.cpl);
      if (row.selector < kGdtLimit) set_descriptor(row.selector, descriptor(0, 0xFFFFF, row.attributes));
      const Snapshot before = snapshot();
      const Fault fault = fault_of([&] {
        if (call) {
          far_call(cpu, row.selector, 0x4321, 4);
        } else {
          far_jump(cpu, row.selector, 0x4321, 4);
        }
      });
      EXPECT_EQ(int{fault.vector}, row.vector);
      if (row.vector != 0xFF) {
        EXPECT_EQ(fault.error_code, row.selector & 0xFFFCU);
        EXPECT_EQ(snapshot(), before);
        continue;
      }
      EXPECT_EQ(state.rip, 0x4321U);
      EXPECT_EQ(selector(SegReg::Cs), (row.selector & 0xFFFC) | row.cpl);
      EXPECT_EQ(state.cpl(), row.cpl);
      EXPECT_EQ(state.gpr[kRsp], call ? kStack - 8 : kStack);
      if (call) {
        EXPECT_EQ(stack_value<std::uint32_t>(0), 0x7000U);
        EXPECT_EQ(stack_value<std::uint32_t>(4), before.selectors[1]);
      }
    }
  }
}

TEST_F(Transfer, TheNullSelectorAndOffsetsBeyondTheLimitAreGp0) {
  enter_protected_mode(0);
  EXPECT_FAULT_CODE(vector::kGp, 0, far_jump(cpu, 3, 0, 4));
  set_descriptor(kTarget, descriptor(0, 0xFF, 0x409B));
  EXPECT_FAULT_CODE(vector::kGp, 0, far_jump(cpu, kTarget, 0x100, 4));
  const Snapshot before = snapshot();
  EXPECT_FAULT_CODE(vector::kGp, 0, far_call(cpu, kTarget, 0x100, 4));
  EXPECT_EQ(snapshot(), before);
}

TEST_F(Transfer, A16BitOperandTruncatesTheOffset) {
  enter_protected_mode(0);
  far_jump(cpu, kTarget - 0x98, 0x1'2345, 2);
  EXPECT_EQ(state.rip, 0x2345U);
}

TEST_F(Transfer, LongModeSwitchesBetween64BitAndCompatibilityCode) {
  enter_long_mode(0);
  far_jump(cpu, kCode, 0x1'0000'5000, 4);
  EXPECT_FALSE(state.code_64());
  EXPECT_EQ(state.rip, 0x5000U);
  far_jump(cpu, kCode64, 0x6000, 4);
  EXPECT_TRUE(state.code_64());
  EXPECT_FAULT_CODE(vector::kGp, 0, far_jump(cpu, kCode64, 0x8000'0000'0000, 8));
  set_descriptor(kTarget, descriptor(0, 0xFFFFF, kCode64Attributes | Segment::kDb));
  EXPECT_FAULT_CODE(vector::kGp, kTarget, far_jump(cpu, kTarget, 0, 4));
}

TEST_F(Transfer, A64BitCallPushesQuadwords) {
  enter_long_mode(0);
  far_call(cpu, kCode64, 0x1234, 8);
  EXPECT_EQ(state.gpr[kRsp], kStack - 16);
  EXPECT_EQ(stack_value<std::uint64_t>(0), 0x7000U);
  EXPECT_EQ(stack_value<std::uint64_t>(8), kCode64);
}

TEST_F(Transfer, CallGateToAnInnerLevelSwitchesStacksAndCopiesParameters) {
  enter_protected_mode(3);
  set_descriptor(kGate, gate(kCallGate32, 3, kCode, 0xDEAD'1234, 3));
  push_words(4, {0x333, 0x222, 0x111});
  const std::uint64_t old_esp = state.gpr[kRsp];
  far_call(cpu, kUserGate, 0x9999, 4);
  EXPECT_EQ(state.cpl(), 0U);
  EXPECT_EQ(selector(SegReg::Cs), kCode);
  EXPECT_EQ(selector(SegReg::Ss), kData);
  EXPECT_EQ(state.rip, 0xDEAD'1234U);
  EXPECT_EQ(state.gpr[kRsp], kInnerStack - 28);
  const std::uint32_t frame[] = {0x7000,   kUserCode, 0x111, 0x222, 0x333, static_cast<std::uint32_t>(old_esp),
                                 kUserData};
  for (unsigned i = 0; i < 7; ++i) EXPECT_EQ(stack_value<std::uint32_t>(4 * i), frame[i]) << i;
  EXPECT_EQ(cpu.mmu.data_view(), View::Supervisor);

  // And back, with RETF releasing the parameters of both stacks.
  far_return(cpu, 4, 12);
  EXPECT_EQ(state.cpl(), 3U);
  EXPECT_EQ(state.rip, 0x7000U);
  EXPECT_EQ(selector(SegReg::Cs), kUserCode);
  EXPECT_EQ(selector(SegReg::Ss), kUserData);
  EXPECT_EQ(state.gpr[kRsp], old_esp + 12);
  EXPECT_EQ(cpu.mmu.data_view(), View::User);
}

TEST_F(Transfer, A16BitCallGatePushesWords) {
  enter_protected_mode(3);
  set_descriptor(kGate, gate(kCallGate16, 3, kCode, 0xDEAD'1234, 1));
  push_words(2, {0x777});
  far_call(cpu, kUserGate, 0, 4);
  EXPECT_EQ(state.rip, 0x1234U);
  EXPECT_EQ(state.gpr[kRsp], kInnerStack - 10);
  const std::uint16_t frame[] = {0x7000, kUserCode, 0x777, kStack - 2, kUserData};
  for (unsigned i = 0; i < 5; ++i) EXPECT_EQ(stack_value<std::uint16_t>(2 * i), frame[i]) << i;
}

TEST_F(Transfer, CallGateTakesTheStackOfA16BitTss) {
  enter_protected_mode(3);
  set_descriptor(kTr, descriptor(kTss, 0x2B, kPresent | kTss16Busy));
  load_from_gdt(state.tr, kTr);
  poke_physical<std::uint16_t>(kTss + 2, 0xA100);
  poke_physical<std::uint16_t>(kTss + 4, kData);
  set_descriptor(kGate, gate(kCallGate32, 3, kCode, 0x100));
  far_call(cpu, kUserGate, 0, 4);
  EXPECT_EQ(state.gpr[kRsp], 0xA100U - 16);
}

TEST_F(Transfer, A64BitCallGateSwitchesToANullStackSegment) {
  enter_long_mode(3);
  set_descriptor(kGate, gate(kCallGate32, 3, kCode64, 0x5678'1234));
  set_descriptor(kGate + 8, 0x7F);
  far_call(cpu, kUserGate, 0, 4);
  EXPECT_EQ(state.rip, 0x7F'5678'1234U);
  EXPECT_EQ(state.cpl(), 0U);
  EXPECT_EQ(selector(SegReg::Ss), 0);
  EXPECT_EQ(state.gpr[kRsp], kInnerStack - 32);
  const std::uint64_t frame[] = {0x7000, kUserCode64, kStack, kUserData};
  for (unsigned i = 0; i < 4; ++i) EXPECT_EQ(stack_value<std::uint64_t>(8 * i), frame[i]) << i;

  set_descriptor(kGate, gate(kCallGate32, 3, kCode, 0));  // compatibility code may not be called through a gate
  EXPECT_FAULT_CODE(vector::kGp, kCode, far_call(cpu, kGate, 0, 4));
  set_descriptor(kGate, gate(kCallGate16, 3, kCode64, 0));
  EXPECT_FAULT_CODE(vector::kGp, kGate, far_call(cpu, kGate, 0, 4));
  set_descriptor(kGate, gate(kTaskGate, 3, kTr, 0));
  EXPECT_FAULT_CODE(vector::kGp, kGate, far_call(cpu, kGate, 0, 4));
}

TEST_F(Transfer, CallGateAtTheSameLevelStaysOnItsStack) {
  enter_protected_mode(0);
  set_descriptor(kGate, gate(kCallGate32, 0, kCode, 0x1234, 5));
  far_call(cpu, kGate, 0, 4);
  EXPECT_EQ(state.gpr[kRsp], kStack - 8);
  far_jump(cpu, kGate, 0, 4);
  EXPECT_EQ(state.gpr[kRsp], kStack - 8);
  EXPECT_EQ(state.rip, 0x1234U);
}

TEST_F(Transfer, AConformingTargetKeepsLevelAndStack) {
  enter_protected_mode(3);
  set_descriptor(kGate, gate(kCallGate32, 3, kConforming, 0x1234));
  far_call(cpu, kUserGate, 0, 4);
  EXPECT_EQ(state.cpl(), 3U);
  EXPECT_EQ(selector(SegReg::Cs), kConforming | 3);
  EXPECT_EQ(state.gpr[kRsp], kStack - 8);
}

// SDM vol. 3, 5.8.4 and table 6-6 of vol. 2's CALL.
TEST_F(Transfer, ChecksCallGates) {
  struct Row {
    const char* what;
    std::uint64_t gate;
    std::uint16_t selector;
    bool call;
    int vector;
    std::uint32_t error;
  };
  const Row rows[] = {
      {"gate DPL below CPL", gate(kCallGate32, 0, kCode, 0), kUserGate, true, vector::kGp, kGate},
      {"gate DPL below RPL", gate(kCallGate32, 2, kCode, 0), kUserGate, true, vector::kGp, kGate},
      {"gate not present", gate(kCallGate32, 3, kCode, 0, 0, false), kUserGate, true, vector::kNp, kGate},
      {"null code selector", gate(kCallGate32, 3, 0, 0), kUserGate, true, vector::kGp, 0},
      {"code outside the GDT", gate(kCallGate32, 3, 0x200, 0), kUserGate, true, vector::kGp, 0x200},
      {"data as code", gate(kCallGate32, 3, kData, 0), kUserGate, true, vector::kGp, kData},
      {"jump inwards", gate(kCallGate32, 3, kCode, 0), kUserGate, false, vector::kGp, kCode},
      {"code not present", gate(kCallGate32, 3, kTarget, 0), kUserGate, true, vector::kNp, kTarget},
      {"offset beyond limit", gate(kCallGate32, 3, kTarget + 8, 0x1000), kUserGate, true, vector::kGp, 0},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.what);
    enter_protected_mode(3);
    set_descriptor(kTarget, descriptor(0, 0xFFF, kCodeAttributes & ~Segment::kP));
    set_descriptor(kTarget + 8, descriptor(0, 0xFFF, 0x409B));
    set_descriptor(kGate, row.gate);
    const Snapshot before = snapshot();
    const Fault fault = fault_of([&] {
      if (row.call) {
        far_call(cpu, row.selector, 0, 4);
      } else {
        far_jump(cpu, row.selector, 0, 4);
      }
    });
    EXPECT_EQ(int{fault.vector}, row.vector);
    EXPECT_EQ(fault.error_code, row.error);
    EXPECT_EQ(snapshot(), before);
  }
}

// SDM vol. 3, 5.8.5: what can be wrong with an inner stack.
TEST_F(Transfer, ChecksInnerStacks) {
  struct Row {
    const char* what;
    std::uint32_t esp;
    std::uint16_t ss;
    std::uint64_t descriptor;
    int vector;
    std::uint32_t error;
  };
  const Row rows[] = {
      {"null", kInnerStack, 0, 0, vector::kTs, 0},
      {"outside the GDT", kInnerStack, 0x200, 0, vector::kTs, 0x200},
      {"RPL", kInnerStack, kTarget | 3, descriptor(0, 0xFFFFF, kDataAttributes), vector::kTs, kTarget},
      {"DPL", kInnerStack, kTarget, descriptor(0, 0xFFFFF, with_dpl(kDataAttributes, 3)), vector::kTs, kTarget},
      {"read-only", kInnerStack, kTarget, descriptor(0, 0xFFFFF, 0xC091), vector::kTs, kTarget},
      {"code", kInnerStack, kTarget, descriptor(0, 0xFFFFF, kCodeAttributes), vector::kTs, kTarget},
      {"not present", kInnerStack, kTarget, descriptor(0, 0xFFFFF, 0xC013), vector::kSs, kTarget},
      {"no room", 8, kTarget, descriptor(0, 0xFFF, 0x4093), vector::kSs, kTarget},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.what);
    enter_protected_mode(3);
    set_descriptor(kGate, gate(kCallGate32, 3, kCode, 0x100));
    if (row.ss < kGdtLimit && row.ss != 0) set_descriptor(row.ss, row.descriptor);
    poke_physical<std::uint32_t>(kTss + 4, row.esp);
    poke_physical<std::uint32_t>(kTss + 8, row.ss);
    const Snapshot before = snapshot();
    const Fault fault = fault_of([&] { far_call(cpu, kUserGate, 0, 4); });
    EXPECT_EQ(int{fault.vector}, row.vector);
    EXPECT_EQ(fault.error_code, row.error);
    EXPECT_EQ(snapshot(), before);
  }
}

TEST_F(Transfer, AnInnerStackOutsideTheTssIsAnInvalidTss) {
  enter_protected_mode(3);
  set_descriptor(kGate, gate(kCallGate32, 3, kCode, 0x100));
  state.tr.limit = 8;
  EXPECT_FAULT_CODE(vector::kTs, kTr, far_call(cpu, kUserGate, 0, 4));
}

TEST_F(Transfer, TaskGatesAndTssDescriptorsAreCheckedForPrivilege) {
  enter_protected_mode(3);
  set_descriptor(kTarget, descriptor(0x6000, 0x67, kPresent | kTss32));
  EXPECT_FAULT_CODE(vector::kGp, kTarget, far_jump(cpu, kTarget, 0, 4));
  set_descriptor(kGate, gate(kTaskGate, 0, kTarget, 0));
  EXPECT_FAULT_CODE(vector::kGp, kGate, far_jump(cpu, kGate, 0, 4));
  set_descriptor(kGate, gate(kTaskGate, 3, kTarget, 0, 0, false));
  EXPECT_FAULT_CODE(vector::kNp, kGate, far_jump(cpu, kUserGate, 0, 4));
  enter_protected_mode(0);
  EXPECT_FAULT_CODE(vector::kGp, kTr, far_jump(cpu, kTr, 0, 4));  // busy: no task may call itself
}

}  // namespace
}  // namespace doppel::x86::test
