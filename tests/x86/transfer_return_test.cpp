#include "segmented_test.h"
#include "x86/transfer.h"

namespace doppel::x86::test {
namespace {

using namespace rflags;

class TransferReturn : public SegmentedTest {
 protected:
  static constexpr std::uint16_t kTarget = 0xA0;
  static constexpr std::uint64_t kAllFlags = 0x3F7FD5;
};

TEST_F(TransferReturn, RealModeReturns) {
  enter_real_mode();
  push_words(2, {0xAAAA, 0x1000, 0x22});
  far_return(cpu, 2, 2);
  EXPECT_EQ(state.seg(SegReg::Cs).base, 0x10000U);
  EXPECT_EQ(state.rip, 0x22U);
  EXPECT_EQ(state.gpr[kRsp], kStack);

  push_words(2, {kAllFlags & 0xFFFF, 0x2000, 0x33});
  interrupt_return(cpu, 2);
  EXPECT_EQ(state.seg(SegReg::Cs).base, 0x20000U);
  EXPECT_EQ(state.rflags(), (kAllFlags & 0xFFFF) | kReserved1);
  EXPECT_EQ(state.gpr[kRsp], kStack);
}

TEST_F(TransferReturn, RealMode32BitInterruptReturnKeepsVmVifAndVip) {
  enter_real_mode();
  push_words(4, {kAllFlags, 0x2000, 0x33});
  interrupt_return(cpu, 4);
  EXPECT_EQ(state.rflags(), (kAllFlags & 0x257FD5) | kReserved1);
}

TEST_F(TransferReturn, SameLevelFarReturn) {
  enter_protected_mode(3);
  push_words(4, {kUserCode, 0x1234});
  far_return(cpu, 4, 8);
  EXPECT_EQ(state.rip, 0x1234U);
  EXPECT_EQ(state.gpr[kRsp], kStack + 8);
}

// SDM vol. 2, RET: the checks on CS.
TEST_F(TransferReturn, ChecksTheReturnCodeSegment) {
  struct Row {
    const char* what;
    unsigned cpl;
    std::uint16_t selector;
    std::uint32_t attributes;
    int vector;
    std::uint32_t error;
  };
  constexpr std::uint32_t kConformingCode = kCodeAttributes | 4;
  const Row rows[] = {
      {"null", 0, 0, 0, vector::kGp, 0},
      {"outside the GDT", 0, 0x200, 0, vector::kGp, 0x200},
      {"data", 0, kTarget, kDataAttributes, vector::kGp, kTarget},
      {"inwards", 3, kTarget, kCodeAttributes, vector::kGp, kTarget},
      {"DPL below RPL", 0, kTarget | 3, kCodeAttributes, vector::kGp, kTarget},
      {"conforming, DPL above RPL", 0, kTarget, with_dpl(kConformingCode, 3), vector::kGp, kTarget},
      {"not present", 0, kTarget, kCodeAttributes & ~Segment::kP, vector::kNp, kTarget},
      {"offset beyond limit", 0, kTarget, 0x009B, vector::kGp, 0},
      {"good", 0, kTarget, kCodeAttributes, 0xFF, 0},
      {"conforming", 3, kTarget | 3, kConformingCode, 0xFF, 0},
  };
  for (const Row& row : rows) {
    for (const bool iret : {false, true}) {
      SCOPED_TRACE(row.what);
      enter_protected_mode(row.cpl);
      if (row.selector != 0 && row.selector < kGdtLimit)
        set_descriptor(row.selector, descriptor(0, 0xFFF, row.attributes));
      if (iret) push_words(4, {kIf});
      push_words(4, {row.selector, 0x1234});
      const Snapshot before = snapshot();
      const Fault fault = fault_of([&] {
        if (iret) {
          interrupt_return(cpu, 4);
        } else {
          far_return(cpu, 4, 0);
        }
      });
      EXPECT_EQ(int{fault.vector}, row.vector);
      if (row.vector == 0xFF) {
        EXPECT_EQ(selector(SegReg::Cs), row.selector);
        EXPECT_EQ(state.gpr[kRsp], kStack);
        continue;
      }
      EXPECT_EQ(fault.error_code, row.error);
      EXPECT_EQ(snapshot(), before);
    }
  }
}

// SDM vol. 2, RET: the checks on SS of a return to an outer level.
TEST_F(TransferReturn, ChecksTheReturnStackSegment) {
  struct Row {
    const char* what;
    std::uint16_t selector;
    std::uint32_t attributes;
    int vector;
    std::uint32_t error;
  };
  constexpr std::uint32_t kUser = with_dpl(kDataAttributes, 3);
  const Row rows[] = {
      {"null", 3, 0, vector::kGp, 0},
      {"outside the GDT", 0x203, 0, vector::kGp, 0x200},
      {"RPL", kTarget, kUser, vector::kGp, kTarget},
      {"DPL", kTarget | 3, kDataAttributes, vector::kGp, kTarget},
      {"read-only", kTarget | 3, kUser & ~2U, vector::kGp, kTarget},
      {"not present", kTarget | 3, kUser & ~Segment::kP, vector::kSs, kTarget},
      {"good", kTarget | 3, kUser, 0xFF, 0},
  };
  for (const Row& row : rows) {
    for (const bool iret : {false, true}) {
      SCOPED_TRACE(row.what);
      enter_protected_mode(0);
      if (row.selector > 3 && row.selector < kGdtLimit)
        set_descriptor(row.selector, descriptor(0, 0xFFFFF, row.attributes));
      push_words(4, {row.selector, 0x8765'4321});
      if (iret) push_words(4, {kIf});
      push_words(4, {kUserCode, 0x1234});
      const Snapshot before = snapshot();
      const Fault fault = fault_of([&] {
        if (iret) {
          interrupt_return(cpu, 4);
        } else {
          far_return(cpu, 4, 0);
        }
      });
      EXPECT_EQ(int{fault.vector}, row.vector);
      if (row.vector == 0xFF) {
        EXPECT_EQ(state.cpl(), 3U);
        EXPECT_EQ(state.gpr[kRsp], 0x8765'4321U);
        EXPECT_EQ(cpu.mmu.data_view(), View::User);
        continue;
      }
      EXPECT_EQ(fault.error_code, row.error);
      EXPECT_EQ(snapshot(), before);
    }
  }
}

TEST_F(TransferReturn, AnOuterLevelLosesInaccessibleDataSegments) {
  enter_protected_mode(0);
  load_segment(cpu, SegReg::Ds, kData);
  load_segment(cpu, SegReg::Es, kUserData);
  load_segment(cpu, SegReg::Fs, kConforming);
  set_null_segment(state.seg(SegReg::Gs), 0);
  state.seg(SegReg::Gs).base = 0x1234'5678;  // as WRMSR leaves it
  push_words(4, {kUserData, kStack, kUserCode, 0x1234});
  far_return(cpu, 4, 0);
  EXPECT_TRUE(state.seg(SegReg::Ds).unusable());
  EXPECT_EQ(selector(SegReg::Ds), 0);
  EXPECT_EQ(selector(SegReg::Es), kUserData);
  EXPECT_EQ(selector(SegReg::Fs), kConforming);
  EXPECT_EQ(state.seg(SegReg::Gs).base, 0x1234'5678U);
}

TEST_F(TransferReturn, A16BitStackKeepsTheUpperHalfOfEsp) {
  enter_protected_mode(0);
  set_descriptor(kTarget, descriptor(0, 0xFFFF, 0x00F3));
  state.gpr[kRsp] = 0x0012'9000;
  push_words(4, {kTarget | 3, 0xAAAA'5678, kIf, kUserCode, 0x1234});
  interrupt_return(cpu, 4);
  EXPECT_EQ(state.gpr[kRsp], 0x0012'5678U);
}

// SDM vol. 2, IRET: which flags are loaded, by privilege before the return and operand size.
TEST_F(TransferReturn, InterruptReturnLoadsTheFlagsItMay) {
  constexpr std::uint64_t kAlways = kStatus | kTf | kDf | kNt, kWide = kRf | kAc | kId;
  struct Row {
    unsigned cpl, iopl, size;
    std::uint64_t loaded;
  };
  const Row rows[] = {
      {0, 0, 4, kAlways | kWide | kIf | kIopl | kVif | kVip},
      {0, 0, 2, kAlways | kIf | kIopl},
      {3, 0, 4, kAlways | kWide},
      {3, 3, 4, kAlways | kWide | kIf},
      {3, 3, 2, kAlways | kIf},
      {3, 0, 2, kAlways},
  };
  for (const Row& row : rows) {
    for (const bool set : {false, true}) {
      SCOPED_TRACE(::testing::Message() << "CPL " << row.cpl << " IOPL " << row.iopl << " size " << row.size);
      enter_protected_mode(row.cpl);
      const std::uint64_t iopl = std::uint64_t{row.iopl} << 12;
      // All flags change, but NT must be clear beforehand.
      const std::uint64_t before = (set ? 0 : kAllFlags & ~(kVm | kNt | kIopl)) | iopl;
      const std::uint64_t image = set ? kAllFlags & ~kVm : 0;
      state.set_rflags(before);
      push_words(row.size, {image, row.cpl == 3 ? kUserCode : kCode, 0x1234});
      interrupt_return(cpu, row.size);
      EXPECT_EQ(state.rflags() & ~kReserved1, (before & ~row.loaded) | (image & row.loaded));
    }
  }
}

TEST_F(TransferReturn, IretqPopsTheStackAtTheSameLevelToo) {
  enter_long_mode(0);
  push_words(8, {kData, 0x8888, kIf, kCode64, 0x4321});
  interrupt_return(cpu, 8);
  EXPECT_EQ(state.gpr[kRsp], 0x8888U);
  EXPECT_EQ(selector(SegReg::Ss), kData);
  EXPECT_EQ(state.rip, 0x4321U);
}

TEST_F(TransferReturn, IretqAcceptsANullStackSegmentBelowLevel3Only) {
  enter_long_mode(0);
  push_words(8, {0, 0x8888, kIf, kCode64, 0x4321});
  interrupt_return(cpu, 8);
  EXPECT_EQ(selector(SegReg::Ss), 0);
  EXPECT_EQ(state.cpl(), 0U);
  enter_long_mode(0);
  push_words(8, {3, 0x8888, kIf, kUserCode64, 0x4321});
  EXPECT_FAULT_CODE(vector::kGp, 0, interrupt_return(cpu, 8));
  enter_long_mode(0);
  push_words(8, {0, 0x8888, kIf, kCode, 0x4321});  // to compatibility mode
  EXPECT_FAULT_CODE(vector::kGp, 0, interrupt_return(cpu, 8));
}

TEST_F(TransferReturn, IretqReachesUserAndCompatibilityCode) {
  enter_long_mode(0);
  push_words(8, {kUserData, 0x7FFF'FFFF'F000, kIf, kUserCode64, 0x4321});
  interrupt_return(cpu, 8);
  EXPECT_EQ(state.cpl(), 3U);
  EXPECT_TRUE(state.code_64());
  EXPECT_EQ(state.gpr[kRsp], 0x7FFF'FFFF'F000U);
  enter_long_mode(0);
  push_words(8, {kUserData, 0x1'0000'8000, kIf, kUserCode, 0x4321});
  interrupt_return(cpu, 8);
  EXPECT_FALSE(state.code_64());
  EXPECT_EQ(state.gpr[kRsp], 0x8000U);
}

TEST_F(TransferReturn, IretqFaultsOnANonCanonicalRip) {
  enter_long_mode(0);
  push_words(8, {kUserData, 0x8000, kIf, kUserCode64, 0x8000'0000'0000});
  const Snapshot before = snapshot();
  EXPECT_FAULT_CODE(vector::kGp, 0, interrupt_return(cpu, 8));
  EXPECT_EQ(snapshot(), before);
}

TEST_F(TransferReturn, CompatibilityModeInterruptReturnLeavesTheStackAlone) {
  enter_long_mode(0, true);
  push_words(4, {kIf, kCode, 0x4321});
  interrupt_return(cpu, 4);
  EXPECT_EQ(state.gpr[kRsp], kStack);
}

TEST_F(TransferReturn, NestedTasksAreAGeneralProtectionFaultInLongMode) {
  enter_long_mode(0);
  state.set_rflags(kNt);
  EXPECT_FAULT_CODE(vector::kGp, 0, interrupt_return(cpu, 8));
}

TEST_F(TransferReturn, InterruptReturnUnblocksNmisEvenWhenItFaults) {
  enter_long_mode(0);
  state.nmi_blocked = true;
  push_words(8, {kData, 0x8888, kIf, kCode64, 0x4321});
  interrupt_return(cpu, 8);
  EXPECT_FALSE(state.nmi_blocked);
  state.nmi_blocked = true;
  push_words(8, {0, 0, 0, 0, 0});
  EXPECT_FAULT(vector::kGp, interrupt_return(cpu, 8));
  EXPECT_FALSE(state.nmi_blocked);
}

TEST_F(TransferReturn, EntersVirtual8086ModeFromLevel0) {
  enter_protected_mode(0);
  push_words(4, {0x6000, 0x5000, 0x4000, 0x3000, 0x2000, 0xFFFE, kVm | kIf | kIopl, 0x1000, 0x100});
  interrupt_return(cpu, 4);
  EXPECT_TRUE(state.virtual_8086());
  EXPECT_EQ(state.cpl(), 3U);
  EXPECT_EQ(state.rip, 0x100U);
  EXPECT_EQ(state.gpr[kRsp], 0xFFFEU);
  const std::pair<SegReg, std::uint16_t> expected[] = {{SegReg::Cs, 0x1000}, {SegReg::Ss, 0x2000},
                                                       {SegReg::Es, 0x3000}, {SegReg::Ds, 0x4000},
                                                       {SegReg::Fs, 0x5000}, {SegReg::Gs, 0x6000}};
  for (const auto& [reg, value] : expected) {
    EXPECT_EQ(selector(reg), value);
    EXPECT_EQ(state.seg(reg).base, std::uint64_t{value} << 4);
    EXPECT_EQ(state.seg(reg).limit, 0xFFFFU);
  }
  EXPECT_EQ(state.rflags() & (kIf | kIopl), kIf | kIopl);
}

TEST_F(TransferReturn, Virtual8086InterruptReturnNeedsIopl3) {
  enter_virtual_8086_mode(0);
  EXPECT_FAULT_CODE(vector::kGp, 0, interrupt_return(cpu, 2));
  enter_virtual_8086_mode(3);
  push_words(2, {kAllFlags & 0xFFFF & ~kIopl & ~kIf, 0x1234, 0x56});
  interrupt_return(cpu, 2);
  EXPECT_EQ(state.seg(SegReg::Cs).base, 0x12340U);
  EXPECT_EQ(state.rflags() & kIopl, kIopl);
  EXPECT_EQ(state.rflags() & kIf, 0U);
  EXPECT_TRUE(state.virtual_8086());
}

TEST_F(TransferReturn, LevelThreeCannotEnterVirtual8086Mode) {
  enter_protected_mode(3);
  push_words(4, {kVm | kIf, kUserCode, 0x100});
  interrupt_return(cpu, 4);
  EXPECT_FALSE(state.virtual_8086());
}

}  // namespace
}  // namespace doppel::x86::test
