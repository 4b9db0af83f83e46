#include "x86/event_delivery.h"

#include "segmented_test.h"
#include "x86/events.h"

namespace doppel::x86::test {
namespace {

using namespace rflags;

class EventDelivery : public SegmentedTest {
 protected:
  static constexpr std::uint16_t kTarget = 0xA0;
  static constexpr Event kExternal{0x20, EventType::ExternalInterrupt}, kIntN{0x20, EventType::SoftwareInterrupt};

  template <class T>
  void expect_frame(std::initializer_list<std::uint64_t> values) {
    unsigned depth = 0;
    for (const std::uint64_t value : values) {
      const std::uint64_t base = state.code_64() ? 0 : state.seg(SegReg::Ss).base;
      EXPECT_EQ(peek_physical<T>(base + state.gpr[kRsp] + depth), static_cast<T>(value)) << "at +" << depth;
      depth += sizeof(T);
    }
  }
};

TEST_F(EventDelivery, RealModeGoesThroughTheVectorTable) {
  enter_real_mode();
  poke_physical<std::uint32_t>(0x20 * 4, 0xF000'1234);
  state.set_rflags(kIf | kTf | kZf | kAc);
  deliver_event(cpu, kExternal);
  EXPECT_EQ(selector(SegReg::Cs), 0xF000);
  EXPECT_EQ(state.rip, 0x1234U);
  EXPECT_EQ(state.rflags(), kZf | kReserved1);
  EXPECT_EQ(state.gpr[kRsp], kStack - 6);
  expect_frame<std::uint16_t>({0x7C00, 0, kIf | kTf | kZf | kReserved1});
}

TEST_F(EventDelivery, RealModeHasNoErrorCodes) {
  enter_real_mode();
  deliver_event(cpu, {vector::kGp, EventType::HardwareException, 0x123});
  EXPECT_EQ(state.gpr[kRsp], kStack - 6);
}

TEST_F(EventDelivery, RealModeVectorsEndAtTheLimit) {
  enter_real_mode();
  state.idtr = {0x100, 0x82};
  EXPECT_FAULT(vector::kGp, deliver_event(cpu, kExternal));
  state.idtr.limit = 0x83;
  poke_physical<std::uint32_t>(0x100 + 0x20 * 4, 0x1000'0042);
  deliver_event(cpu, kExternal);
  EXPECT_EQ(state.rip, 0x42U);
}

TEST_F(EventDelivery, SameLevelGatesOfBothSizes) {
  struct Row {
    SystemType type;
    unsigned size;
    bool clears_if;
  };
  const Row rows[] = {
      {kInterruptGate16, 2, true}, {kTrapGate16, 2, false}, {kInterruptGate32, 4, true}, {kTrapGate32, 4, false}};
  for (const Row& row : rows) {
    SCOPED_TRACE(row.type);
    enter_protected_mode(0);
    state.set_rflags(kIf | kTf | kNt | kZf | kAc);
    set_gate(0x20, gate(row.type, 0, kCode, 0x1'5000));
    deliver_event(cpu, kExternal);
    EXPECT_EQ(state.rip, row.size == 2 ? 0x5000U : 0x1'5000U);
    EXPECT_EQ(state.rflags(), (row.clears_if ? 0 : kIf) | kZf | kAc | kReserved1);
    EXPECT_EQ(state.gpr[kRsp], kStack - 3 * row.size);
    if (row.size == 2) {
      expect_frame<std::uint16_t>({0x7000, kCode, kIf | kTf | kNt | kZf | kReserved1});
    } else {
      expect_frame<std::uint32_t>({0x7000, kCode, kIf | kTf | kNt | kZf | kAc | kReserved1});
    }
  }
}

TEST_F(EventDelivery, AnInnerLevelHasItsOwnStack) {
  enter_protected_mode(3);
  set_gate(vector::kPf, gate(kInterruptGate32, 0, kCode, kHandler));
  deliver_event(cpu, {vector::kPf, EventType::HardwareException, 0x6, true});
  EXPECT_EQ(state.cpl(), 0U);
  EXPECT_EQ(state.rip, kHandler);
  EXPECT_EQ(selector(SegReg::Ss), kData);
  EXPECT_EQ(state.gpr[kRsp], kInnerStack - 24);
  expect_frame<std::uint32_t>({0x6, 0x7000, kUserCode, kIf | kRf | kReserved1, kStack, kUserData});
  EXPECT_EQ(cpu.mmu.data_view(), View::Supervisor);
}

TEST_F(EventDelivery, AConformingHandlerKeepsTheLevel) {
  enter_protected_mode(3);
  set_gate(0x20, gate(kInterruptGate32, 0, kConforming, kHandler));
  deliver_event(cpu, kExternal);
  EXPECT_EQ(state.cpl(), 3U);
  EXPECT_EQ(selector(SegReg::Cs), kConforming | 3);
  EXPECT_EQ(state.gpr[kRsp], kStack - 12);
}

// SDM vol. 3, table 6-1.
TEST_F(EventDelivery, PushesErrorCodesOfTheVectorsThatHaveOne) {
  constexpr std::uint32_t kWithErrorCode = 0x0002'7D00;
  for (unsigned vector = 0; vector < 32; ++vector) {
    SCOPED_TRACE(vector);
    const bool has = (kWithErrorCode >> vector & 1) != 0;
    enter_protected_mode(0);
    set_gate(static_cast<std::uint8_t>(vector), gate(kInterruptGate32, 3, kCode, kHandler));
    deliver_event(cpu, {static_cast<std::uint8_t>(vector), EventType::HardwareException, 0x77});
    EXPECT_EQ(state.gpr[kRsp], kStack - (has ? 16 : 12));
    enter_protected_mode(0);
    deliver_event(cpu, {static_cast<std::uint8_t>(vector), EventType::SoftwareInterrupt});
    EXPECT_EQ(state.gpr[kRsp], kStack - 12);
  }
}

TEST_F(EventDelivery, LongModeAlignsItsFrame) {
  enter_long_mode(0);
  set_gate(0x20, gate(kInterruptGate32, 0, kCode64, kHandler));
  state.gpr[kRsp] = kStack - 8;
  deliver_event(cpu, kExternal);
  EXPECT_EQ(state.gpr[kRsp], kStack - 16 - 40);
  EXPECT_EQ(selector(SegReg::Ss), kData);
  expect_frame<std::uint64_t>({0x7000, kCode64, kIf | kReserved1, kStack - 8, kData});
  EXPECT_EQ(state.rflags() & kIf, 0U);
}

TEST_F(EventDelivery, LongModeInnerLevelHasANullStackSegment) {
  for (const bool compatibility : {false, true}) {
    enter_long_mode(3, compatibility);
    set_gate(vector::kGp, gate(kTrapGate32, 0, kCode64, kHandler));
    deliver_event(cpu, {vector::kGp, EventType::HardwareException, 0x99});
    EXPECT_EQ(selector(SegReg::Ss), 0);
    EXPECT_EQ(state.cpl(), 0U);
    EXPECT_TRUE(state.code_64());
    EXPECT_EQ(state.gpr[kRsp], kInnerStack - 48);
    expect_frame<std::uint64_t>(
        {0x99, 0x7000, compatibility ? kUserCode : kUserCode64, kIf | kReserved1, kStack, kUserData});
    EXPECT_NE(state.rflags() & kIf, 0U);
  }
}

TEST_F(EventDelivery, TheInterruptStackTableSwitchesStacksAtAnyLevel) {
  enter_long_mode(0);
  set_gate(0x20, gate(kInterruptGate32, 0, kCode64, kHandler, 1));
  deliver_event(cpu, kExternal);
  EXPECT_EQ(state.gpr[kRsp], align_down(kIstStack, 16) - 40);
  EXPECT_EQ(selector(SegReg::Ss), kData);
  expect_frame<std::uint64_t>({0x7000, kCode64, kIf | kReserved1, kStack, kData});

  enter_long_mode(3);
  deliver_event(cpu, kExternal);
  EXPECT_EQ(state.gpr[kRsp], align_down(kIstStack, 16) - 40);
  EXPECT_EQ(selector(SegReg::Ss), 0);
}

TEST_F(EventDelivery, LongModeHandlerAddressesHave64Bits) {
  enter_long_mode(0);
  set_gate(0x20, gate(kInterruptGate32, 0, kCode64, 0x8765'4321));
  poke_physical<std::uint64_t>(kIdt + 0x208, 0xFFFF'8000);
  deliver_event(cpu, kExternal);
  EXPECT_EQ(state.rip, 0xFFFF'8000'8765'4321U);
  poke_physical<std::uint64_t>(kIdt + 0x208, 0x8000);
  EXPECT_FAULT_CODE(vector::kGp, 1, deliver_event(cpu, kExternal));
}

// SDM vol. 3, 6.12.1, 6.13 and 6.14: faults of delivery and their error codes; EXT is set unless software asked.
TEST_F(EventDelivery, ChecksGatesAndHandlers) {
  struct Row {
    const char* what;
    unsigned cpl;
    std::uint64_t gate;
    bool long_mode;
    int vector;
    std::uint32_t error;
    bool software_only = false;
  };
  constexpr std::uint32_t kIdtError = 0x20 * 8 + 2;
  const Row rows[] = {
      {"not a gate", 0, gate(kCallGate32, 3, kCode, 0), false, vector::kGp, kIdtError},
      {"code descriptor as gate", 0, descriptor(0, 0xFFFFF, kCodeAttributes), false, vector::kGp, kIdtError},
      {"absent gate", 0, gate(kInterruptGate32, 3, kCode, 0, 0, false), false, vector::kNp, kIdtError},
      {"DPL below CPL", 3, gate(kInterruptGate32, 0, kCode, 0), false, vector::kGp, kIdtError, true},
      {"null handler", 0, gate(kInterruptGate32, 3, 3, 0), false, vector::kGp, 0},
      {"handler outside the GDT", 0, gate(kInterruptGate32, 3, 0x200, 0), false, vector::kGp, 0x200},
      {"data as handler", 0, gate(kInterruptGate32, 3, kData, 0), false, vector::kGp, kData},
      {"outer handler", 0, gate(kInterruptGate32, 3, kUserCode, 0), false, vector::kGp, kUserCode & 0xFFFC},
      {"absent handler", 0, gate(kInterruptGate32, 3, kTarget, 0), false, vector::kNp, kTarget},
      {"beyond the limit", 0, gate(kInterruptGate32, 3, kTarget + 8, 0x1000), false, vector::kGp, 0},
      {"16-bit gate in long mode", 0, gate(kInterruptGate16, 3, kCode64, 0), true, vector::kGp, kIdtError},
      {"task gate in long mode", 0, gate(kTaskGate, 3, kTr, 0), true, vector::kGp, kIdtError},
      {"compatibility handler", 0, gate(kInterruptGate32, 3, kCode, 0), true, vector::kGp, kCode},
      {"absent handler in long mode", 0, gate(kInterruptGate32, 3, kTarget + 16, 0), true, vector::kNp, kTarget + 16},
  };
  for (const Row& row : rows) {
    for (const bool software : {false, true}) {
      if (row.software_only && !software) continue;
      SCOPED_TRACE(row.what);
      if (row.long_mode) {
        enter_long_mode(row.cpl);
      } else {
        enter_protected_mode(row.cpl);
      }
      set_descriptor(kTarget, descriptor(0, 0xFFF, kCodeAttributes & ~Segment::kP));
      set_descriptor(kTarget + 8, descriptor(0, 0xFFF, 0x409B));
      set_descriptor(kTarget + 16, descriptor(0, 0xFFF, kCode64Attributes & ~Segment::kP));
      set_gate(0x20, row.gate);
      const Snapshot before = snapshot();
      const Fault fault = fault_of([&] { deliver_event(cpu, software ? kIntN : kExternal); });
      EXPECT_EQ(int{fault.vector}, row.vector);
      EXPECT_EQ(fault.error_code, row.error | (software ? 0 : 1));
      EXPECT_EQ(snapshot(), before);
    }
  }
}

TEST_F(EventDelivery, VectorsEndAtTheIdtLimit) {
  enter_protected_mode(0);
  set_gate(0x20, gate(kInterruptGate32, 0, kCode, kHandler));
  state.idtr.limit = 0x106;
  EXPECT_FAULT_CODE(vector::kGp, 0x103, deliver_event(cpu, kExternal));
  state.idtr.limit = 0x107;
  deliver_event(cpu, kExternal);
  enter_long_mode(0);
  set_gate(0x20, gate(kInterruptGate32, 0, kCode64, kHandler));
  state.idtr.limit = 0x20E;
  EXPECT_FAULT_CODE(vector::kGp, 0x103, deliver_event(cpu, kExternal));
}

TEST_F(EventDelivery, BadStacksAreExternalStackOrTssFaults) {
  enter_protected_mode(3);
  set_gate(0x20, gate(kInterruptGate32, 3, kCode, kHandler));
  poke_physical<std::uint32_t>(kTss + 8, 0);
  EXPECT_FAULT_CODE(vector::kTs, 1, deliver_event(cpu, kExternal));
  EXPECT_FAULT_CODE(vector::kTs, 0, deliver_event(cpu, kIntN));
  set_descriptor(kTarget, descriptor(0, 0xF, 0x4093));
  poke_physical<std::uint32_t>(kTss + 8, kTarget);
  EXPECT_FAULT_CODE(vector::kSs, kTarget | 1, deliver_event(cpu, kExternal));

  enter_protected_mode(0);
  state.seg(SegReg::Ss).limit = 0xFFF;
  EXPECT_FAULT_CODE(vector::kSs, 1, deliver_event(cpu, kExternal));

  enter_long_mode(0);
  set_gate(0x20, gate(kInterruptGate32, 3, kCode64, kHandler));
  state.gpr[kRsp] = 0x8000'0000'1000;
  EXPECT_FAULT_CODE(vector::kSs, 1, deliver_event(cpu, kExternal));
  state.tr.limit = 0x2A;
  set_gate(0x20, gate(kInterruptGate32, 3, kCode64, kHandler, 1));
  EXPECT_FAULT_CODE(vector::kTs, kTr | 1, deliver_event(cpu, kExternal));
}

TEST_F(EventDelivery, LeavesVirtual8086ModeWithItsSegments) {
  enter_virtual_8086_mode(0);
  state.rip = 0x1234;
  set_gate(vector::kGp, gate(kInterruptGate32, 0, kCode, kHandler));
  deliver_event(cpu, {vector::kGp, EventType::HardwareException, 0, true});
  EXPECT_FALSE(state.virtual_8086());
  EXPECT_EQ(state.cpl(), 0U);
  EXPECT_EQ(state.gpr[kRsp], kInnerStack - 40);
  expect_frame<std::uint32_t>({0, 0x1234, 0x100, kVm | kIf | kRf | kReserved1, 0x1000, 0x800, 0, 0x300, 0x400, 0x500});
  for (const SegReg reg : {SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs}) {
    EXPECT_TRUE(state.seg(reg).unusable());
    EXPECT_EQ(selector(reg), 0);
  }
}

TEST_F(EventDelivery, Virtual8086HandlersMustBeAtLevel0) {
  enter_virtual_8086_mode(3);
  set_gate(0x20, gate(kInterruptGate32, 3, kConforming, kHandler));
  EXPECT_FAULT_CODE(vector::kGp, kConforming | 1, deliver_event(cpu, kExternal));
  set_gate(0x20, gate(kInterruptGate32, 3, kUserCode, kHandler));
  EXPECT_FAULT_CODE(vector::kGp, kUserCode & 0xFFFC, deliver_event(cpu, kIntN));
}

TEST_F(EventDelivery, Virtual8086SoftwareInterruptsNeedIopl3) {
  set_gate(0x20, gate(kInterruptGate32, 3, kCode, kHandler));
  set_gate(vector::kBp, gate(kInterruptGate32, 3, kCode, kHandler));
  enter_virtual_8086_mode(2);
  EXPECT_FAULT_CODE(vector::kGp, 0, deliver_software_interrupt(cpu, 0x20, SoftwareInterrupt::IntN));
  deliver_software_interrupt(cpu, vector::kBp, SoftwareInterrupt::Int3);
  EXPECT_EQ(state.rip, kHandler);
  enter_virtual_8086_mode(3);
  deliver_software_interrupt(cpu, 0x20, SoftwareInterrupt::IntN);
  EXPECT_EQ(state.rip, kHandler);
}

TEST_F(EventDelivery, Int1NeedsNoPrivilege) {
  enter_protected_mode(3);
  set_gate(vector::kDb, gate(kInterruptGate32, 0, kCode, kHandler));
  deliver_software_interrupt(cpu, vector::kDb, SoftwareInterrupt::Int1);
  EXPECT_EQ(state.rip, kHandler);
  enter_protected_mode(3);
  set_gate(vector::kBp, gate(kInterruptGate32, 0, kCode, kHandler));
  EXPECT_FAULT_CODE(vector::kGp, 3 * 8 + 2, deliver_software_interrupt(cpu, vector::kBp, SoftwareInterrupt::Int3));
}

TEST_F(EventDelivery, ASoftwareInterruptEndsTheSingleStep) {
  enter_protected_mode(0);
  set_gate(0x80, gate(kTrapGate32, 3, kCode, kHandler));
  cpu.single_step = true;
  deliver_software_interrupt(cpu, 0x80, SoftwareInterrupt::IntN);
  EXPECT_FALSE(cpu.single_step);
}

TEST_F(EventDelivery, SmapHoldsForFramesWhateverUserCodeSaysInAc) {
  enter_long_mode(3);
  state.cr4 |= cr4::kSmap;
  set_gate(0x20, gate(kInterruptGate32, 3, kCode64, kHandler));
  state.set_rflags(kIf | kAc);
  cpu.mmu.refresh_view();
  cpu.mmu.flush_all();
  // All pages are user pages, so even the IDT is out of reach.
  EXPECT_FAULT(vector::kPf, deliver_event(cpu, kExternal));
}

}  // namespace
}  // namespace doppel::x86::test
