#include "x86/task_switch.h"

#include "segmented_test.h"
#include "x86/event_delivery.h"
#include "x86/transfer.h"

namespace doppel::x86::test {
namespace {

using namespace rflags;

class TaskSwitch : public SegmentedTest {
 protected:
  static constexpr std::uint16_t kNewTask = 0xA0, kGate = 0xA8, kScratch = 0xB0;
  static constexpr std::uint64_t kNewTss = 0x6000, kNewStack = 0xC000;
  static constexpr std::uint64_t kDr6Bt = 0x8000;

  /// A 32-bit TSS of level 3 whose general registers hold 0x100, 0x101 …
  void prepare_task_32() {
    set_descriptor(kNewTask, descriptor(kNewTss, 0x67, kPresent | kTss32));
    set(0x1C, 0);
    set(0x20, 0x1234'5678);
    set(0x24, kIf | kZf | kReserved1);
    for (std::uint32_t i = 0; i < 8; ++i) set(0x28 + 4 * i, 0x100 + i);
    set(0x38, kNewStack);
    const std::uint16_t selectors[] = {kUserData, kUserCode, kUserData, kUserData, 0, kUserData};
    for (std::uint32_t i = 0; i < 6; ++i) set(0x48 + 4 * i, selectors[i]);
    set(0x60, 0);
    set(0x64, 0);
  }
  void prepare_task_16() {
    set_descriptor(kNewTask, descriptor(kNewTss, 0x2B, kPresent | kTss16));
    set_16(0x0E, 0x5678);
    set_16(0x10, kIf | kReserved1);
    for (std::uint32_t i = 0; i < 8; ++i) set_16(0x12 + 2 * i, 0x100 + i);
    const std::uint16_t selectors[] = {kData, kCode, kData, kData};
    for (std::uint32_t i = 0; i < 4; ++i) set_16(0x22 + 2 * i, selectors[i]);
    set_16(0x2A, 0);
  }
  void set(std::uint32_t offset, std::uint64_t value) {
    poke_physical(kNewTss + offset, static_cast<std::uint32_t>(value));
  }
  void set_16(std::uint32_t offset, std::uint64_t value) {
    poke_physical(kNewTss + offset, static_cast<std::uint16_t>(value));
  }
  bool busy(std::uint16_t tss) { return (descriptor_of(tss) >> 41 & 1) != 0; }
};

TEST_F(TaskSwitch, JumpSavesOneTaskAndLoadsTheOther) {
  enter_protected_mode(0);
  prepare_task_32();
  for (std::uint32_t i = 0; i < 8; ++i) state.gpr[i] = 0x1000 + i;
  state.set_rflags(kIf | kCf | kNt);
  far_jump(cpu, kNewTask, 0x9999, 4);

  EXPECT_EQ(peek_physical<std::uint32_t>(kTss + 0x20), 0x7000U);
  EXPECT_EQ(peek_physical<std::uint32_t>(kTss + 0x24), kIf | kCf | kNt | kReserved1);
  for (std::uint32_t i = 0; i < 8; ++i) EXPECT_EQ(peek_physical<std::uint32_t>(kTss + 0x28 + 4 * i), 0x1000 + i);
  EXPECT_EQ(peek_physical<std::uint32_t>(kTss + 0x4C), kCode);
  EXPECT_EQ(peek_physical<std::uint32_t>(kTss + 0x50), kData);

  EXPECT_EQ(state.rip, 0x1234'5678U);
  EXPECT_EQ(cpu.instruction_start, state.rip);
  EXPECT_EQ(state.rflags(), kIf | kZf | kReserved1);
  for (std::uint32_t i = 0; i < 8; ++i) {
    EXPECT_EQ(state.gpr[i], i == kRsp ? kNewStack : 0x100 + i);
  }
  EXPECT_EQ(state.cpl(), 3U);
  EXPECT_EQ(selector(SegReg::Cs), kUserCode);
  EXPECT_EQ(selector(SegReg::Gs), kUserData);
  EXPECT_TRUE(state.seg(SegReg::Fs).unusable());
  EXPECT_TRUE(state.ldtr.unusable());
  EXPECT_EQ(state.tr.selector, kNewTask);
  EXPECT_EQ(state.tr.base, kNewTss);
  EXPECT_NE(state.cr0 & cr0::kTs, 0U);
  EXPECT_EQ(cpu.mmu.data_view(), View::User);
  EXPECT_FALSE(busy(kTr));
  EXPECT_TRUE(busy(kNewTask));
}

TEST_F(TaskSwitch, CallNestsAndInterruptReturnUnnests) {
  enter_protected_mode(0);
  prepare_task_32();
  far_call(cpu, kNewTask, 0, 4);
  EXPECT_TRUE(busy(kTr));
  EXPECT_TRUE(busy(kNewTask));
  EXPECT_EQ(peek_physical<std::uint16_t>(kNewTss), kTr);
  EXPECT_NE(state.rflags() & kNt, 0U);

  interrupt_return(cpu, 4);
  EXPECT_EQ(state.tr.selector, kTr);
  EXPECT_TRUE(busy(kTr));
  EXPECT_FALSE(busy(kNewTask));
  EXPECT_EQ(state.rip, 0x7000U);
  EXPECT_EQ(state.cpl(), 0U);
  EXPECT_EQ(peek_physical<std::uint32_t>(kNewTss + 0x24) & kNt, 0U);
}

TEST_F(TaskSwitch, TaskGatesLeadToTheirTss) {
  enter_protected_mode(3);
  prepare_task_32();
  set_descriptor(kGate, gate(kTaskGate, 3, kNewTask, 0));
  far_jump(cpu, kGate | 3, 0, 4);
  EXPECT_EQ(state.tr.selector, kNewTask);
}

TEST_F(TaskSwitch, A16BitTssHoldsWords) {
  enter_protected_mode(0);
  prepare_task_16();
  far_call(cpu, kNewTask, 0, 4);
  EXPECT_EQ(state.rip, 0x5678U);
  EXPECT_EQ(state.gpr[kRcx], 0x101U);
  EXPECT_EQ(state.gpr[kRdi], 0x107U);
  EXPECT_EQ(selector(SegReg::Ds), kData);
  EXPECT_TRUE(state.seg(SegReg::Gs).unusable());
  EXPECT_EQ(peek_physical<std::uint16_t>(kNewTss), kTr);

  state.gpr[kRax] = 0xABCD'1234;
  interrupt_return(cpu, 4);
  EXPECT_EQ(peek_physical<std::uint16_t>(kNewTss + 0x12), 0x1234);
  EXPECT_EQ(peek_physical<std::uint16_t>(kNewTss + 0x14), 0x101);
  EXPECT_EQ(state.rip, 0x7000U);
}

TEST_F(TaskSwitch, EntersAVirtual8086Task) {
  enter_protected_mode(0);
  prepare_task_32();
  set(0x20, 0x100);
  set(0x24, kVm | kIf);
  set(0x4C, 0x1000);
  far_jump(cpu, kNewTask, 0, 4);
  EXPECT_TRUE(state.virtual_8086());
  EXPECT_EQ(state.seg(SegReg::Cs).base, 0x10000U);
  EXPECT_EQ(state.cpl(), 3U);
}

TEST_F(TaskSwitch, LoadsTheNewTasksLdtFirst) {
  enter_protected_mode(0);
  prepare_task_32();
  set_descriptor(kScratch, descriptor(kLdtBase, 0xF, kPresent | kLdt));
  poke_physical(kLdtBase + 8, descriptor(0x500, 0xFFFFF, with_dpl(kDataAttributes, 3)));
  set(0x60, kScratch);
  set(0x54, 0xF);  // DS: entry 1 of the LDT
  far_jump(cpu, kNewTask, 0, 4);
  EXPECT_EQ(state.ldtr.base, kLdtBase);
  EXPECT_EQ(state.seg(SegReg::Ds).base, 0x500U);
}

TEST_F(TaskSwitch, TheTrapBitMakesADebugTrapPending) {
  enter_protected_mode(0);
  prepare_task_32();
  set(0x64, 1);
  far_jump(cpu, kNewTask, 0, 4);
  EXPECT_EQ(state.pending_debug, kDr6Bt);
}

TEST_F(TaskSwitch, DisablesLocalBreakpointsOnly) {
  enter_protected_mode(0);
  prepare_task_32();
  state.dr7 = 0x7FF;
  far_jump(cpu, kNewTask, 0, 4);
  EXPECT_EQ(state.dr7, 0x6AAU);
}

TEST_F(TaskSwitch, APendingErrorCodeGoesToTheNewStack) {
  enter_protected_mode(3);
  prepare_task_32();
  set_gate(vector::kGp, gate(kTaskGate, 0, kNewTask, 0));
  deliver_event(cpu, {vector::kGp, EventType::HardwareException, 0x1234, true});
  EXPECT_EQ(state.gpr[kRsp], kNewStack - 4);
  EXPECT_EQ(peek_physical<std::uint32_t>(kNewStack - 4), 0x1234U);
  EXPECT_EQ(state.rip, 0x1234'5678U);
  EXPECT_NE(peek_physical<std::uint32_t>(kTss + 0x24) & kRf, 0U);  // a fault
  EXPECT_NE(state.rflags() & kNt, 0U);
}

// SDM vol. 3, table 7-1: what is found before the switch leaves the old task as it was.
TEST_F(TaskSwitch, ChecksTheTssBeforeTheSwitch) {
  struct Row {
    const char* what;
    TaskSwitchReason reason;
    std::uint16_t selector;
    std::uint64_t descriptor;
    int vector;
  };
  const Row rows[] = {
      {"busy", TaskSwitchReason::Jump, kNewTask, descriptor(kNewTss, 0x67, kPresent | kTss32Busy), vector::kGp},
      {"not a TSS", TaskSwitchReason::Call, kNewTask, descriptor(0, 0x67, kPresent | kLdt), vector::kGp},
      {"in the LDT", TaskSwitchReason::Gate, kNewTask | 4, 0, vector::kGp},
      {"outside the GDT", TaskSwitchReason::Gate, 0x200, 0, vector::kGp},
      {"absent", TaskSwitchReason::Jump, kNewTask, descriptor(kNewTss, 0x67, kTss32), vector::kNp},
      {"short", TaskSwitchReason::Jump, kNewTask, descriptor(kNewTss, 0x66, kPresent | kTss32), vector::kTs},
      {"short, 16 bits", TaskSwitchReason::Jump, kNewTask, descriptor(kNewTss, 0x2A, kPresent | kTss16), vector::kTs},
      {"return to an idle one", TaskSwitchReason::Iret, kNewTask, descriptor(kNewTss, 0x67, kPresent | kTss32),
       vector::kTs},
      {"return to the LDT", TaskSwitchReason::Iret, kNewTask | 4, 0, vector::kTs},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.what);
    enter_protected_mode(0);
    if (row.descriptor != 0) set_descriptor(row.selector, row.descriptor);
    const Snapshot before = snapshot();
    const Fault fault = fault_of([&] { switch_task(cpu, row.selector, row.reason); });
    EXPECT_EQ(int{fault.vector}, row.vector);
    EXPECT_EQ(fault.error_code, row.selector & 0xFFFCU);
    EXPECT_EQ(snapshot(), before);
    EXPECT_EQ(state.tr.selector, kTr);
  }
}

// SDM vol. 3, table 7-1: what is found after it happens in the new task.
TEST_F(TaskSwitch, ChecksSegmentsInTheNewTask) {
  struct Row {
    const char* what;
    std::uint32_t field;
    std::uint16_t selector;
    std::uint64_t descriptor;
    int vector;
    std::uint32_t error;
  };
  constexpr std::uint32_t kEs = 0x48, kCs = 0x4C, kSs = 0x50, kDs = 0x54, kLdtField = 0x60;
  const std::uint64_t absent_code = descriptor(0, 0xFFFFF, with_dpl(kCodeAttributes, 3) & ~Segment::kP);
  const std::uint64_t absent_data = descriptor(0, 0xFFFFF, with_dpl(kDataAttributes, 3) & ~Segment::kP);
  const Row rows[] = {
      {"LDT in the LDT", kLdtField, kScratch | 4, 0, vector::kTs, kScratch | 4},
      {"LDT is none", kLdtField, kData, 0, vector::kTs, kData},
      {"LDT absent", kLdtField, kScratch, descriptor(0, 0xF, kLdt), vector::kTs, kScratch},
      {"null CS", kCs, 3, 0, vector::kTs, 0},
      {"data as CS", kCs, kUserData, 0, vector::kTs, kUserData & 0xFFFC},
      {"CS DPL", kCs, kCode | 3, 0, vector::kTs, kCode},
      {"CS absent", kCs, kScratch | 3, absent_code, vector::kNp, kScratch},
      {"null SS", kSs, 0, 0, vector::kTs, 0},
      {"SS RPL", kSs, kUserData & 0xFFFC, 0, vector::kTs, kUserData & 0xFFFC},
      {"SS DPL", kSs, kData | 3, 0, vector::kTs, kData},
      {"SS absent", kSs, kScratch | 3, absent_data, vector::kSs, kScratch},
      {"DS DPL", kDs, kData | 3, 0, vector::kTs, kData},
      {"ES absent", kEs, kScratch | 3, absent_data, vector::kNp, kScratch},
      {"ES outside the GDT", kEs, 0x200, 0, vector::kTs, 0x200},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.what);
    enter_protected_mode(0);
    set_descriptor(kTr, descriptor(kTss, 0x67, kPresent | kTss32Busy));
    prepare_task_32();
    if (row.descriptor != 0) set_descriptor(row.selector, row.descriptor);
    set(row.field, row.selector);
    const Fault fault = fault_of([&] { far_jump(cpu, kNewTask, 0, 4); });
    EXPECT_EQ(int{fault.vector}, row.vector);
    EXPECT_EQ(fault.error_code, row.error);
    EXPECT_EQ(state.tr.selector, kNewTask);
    EXPECT_EQ(cpu.instruction_start, 0x1234'5678U);
  }
}

TEST_F(TaskSwitch, AnEntryPointBeyondTheLimitFaultsInTheNewTask) {
  enter_protected_mode(0);
  prepare_task_32();
  set_descriptor(kScratch, descriptor(0, 0xFFF, with_dpl(0x409B, 3)));
  set(0x4C, kScratch | 3);
  EXPECT_FAULT_CODE(vector::kGp, 0, far_jump(cpu, kNewTask, 0, 4));
  EXPECT_EQ(state.tr.selector, kNewTask);
}

TEST_F(TaskSwitch, FaultsOfATaskGateInTheIdtAreExternal) {
  enter_protected_mode(0);
  set_gate(0x20, gate(kTaskGate, 3, kTr, 0));
  EXPECT_FAULT_CODE(vector::kGp, kTr | 1, deliver_event(cpu, {0x20, EventType::ExternalInterrupt}));
  EXPECT_FAULT_CODE(vector::kGp, kTr, deliver_event(cpu, {0x20, EventType::SoftwareInterrupt}));
}

}  // namespace
}  // namespace doppel::x86::test
