#include "segmented_test.h"

namespace doppel::x86::test {
namespace {

using Segmentation = SegmentedTest;

constexpr std::uint32_t kReadOnlyData = 0xC091, kExpandDown = 0xC097, kExpandDown16 = 0x8097, kExecuteOnly = 0xC099;
constexpr std::uint32_t kNotPresent = 0x7F;  // a mask: clears P and keeps the type and DPL

TEST_F(Segmentation, ChecksLimitsOfExpandUpAndExpandDownSegments) {
  struct Row {
    std::uint32_t attributes, limit;
    std::uint64_t offset, size;
    bool inside;
  };
  const Row rows[] = {
      {0x4093, 0xFFFF, 0xFFFF, 1, true},         {0x4093, 0xFFFF, 0xFFFF, 2, false},
      {0x4093, 0xFFFF, 0xFFFC, 4, true},         {0x4093, 0xFFFF, 0x10000, 1, false},
      {0xC093, 0xFFFFFFFF, 0xFFFFFFFF, 1, true}, {0xC093, 0xFFFFFFFF, 0xFFFFFFFF, 2, false},
      {0x4097, 0xFFF, 0x1000, 4, true},          {0x4097, 0xFFF, 0xFFF, 4, false},
      {0x4097, 0xFFF, 0xFFFFFFFC, 4, true},      {0x4097, 0xFFF, 0xFFFFFFFD, 4, false},
      {0x0097, 0xFFF, 0xFFFE, 2, true},          {0x0097, 0xFFF, 0xFFFF, 2, false},
      {0x0097, 0xFFFF, 0xFFFF, 1, false},        {0x4093, 0, 0, 1, true},
  };
  for (const Row& row : rows) {
    const Segment segment{0, row.limit, row.attributes, 8};
    EXPECT_EQ(within_limit(segment, row.offset, row.size), row.inside)
        << std::hex << row.attributes << " limit " << row.limit << " offset " << row.offset << " size " << row.size;
  }
}

TEST_F(Segmentation, ChecksTypesOfProtectedModeAccesses) {
  enter_protected_mode(0);
  struct Row {
    std::uint32_t attributes;
    bool read, write;
  };
  const Row rows[] = {{kDataAttributes, true, true},
                      {kReadOnlyData, true, false},
                      {kCodeAttributes, true, false},
                      {kExecuteOnly, false, false},
                      {Segment::kUnusable, false, false}};
  for (const Row& row : rows) {
    state.seg(SegReg::Es) = {0x1000, 0xFFFFF, row.attributes, 8};
    const int read = fault_of([&] { segment_address(cpu, SegReg::Es, 0, 4, Access::Read); }).vector;
    const int write = fault_of([&] { segment_address(cpu, SegReg::Es, 0, 4, Access::Write); }).vector;
    EXPECT_EQ(read, row.read ? 0xFF : vector::kGp) << std::hex << row.attributes;
    EXPECT_EQ(write, row.write ? 0xFF : vector::kGp) << std::hex << row.attributes;
  }
}

TEST_F(Segmentation, AddsTheBaseAndWrapsAt32Bits) {
  enter_protected_mode(0);
  state.seg(SegReg::Ds) = {0xFFFF'F000, 0xFFFF'FFFF, kDataAttributes, kData};
  EXPECT_EQ(segment_address(cpu, SegReg::Ds, 0x1234, 4, Access::Read), 0x234U);
}

TEST_F(Segmentation, StackSegmentViolationsAreStackFaults) {
  enter_protected_mode(0);
  state.seg(SegReg::Ss).limit = 0xFFF;
  state.seg(SegReg::Ds).limit = 0xFFF;
  EXPECT_FAULT_CODE(vector::kSs, 0, segment_address(cpu, SegReg::Ss, 0x1000, 1, Access::Read));
  EXPECT_FAULT_CODE(vector::kGp, 0, segment_address(cpu, SegReg::Ds, 0x1000, 1, Access::Read));
}

TEST_F(Segmentation, RealModeHonoursACachedBigLimit) {
  enter_real_mode();
  EXPECT_FAULT(vector::kGp, segment_address(cpu, SegReg::Ds, 0x10000, 1, Access::Read));
  state.seg(SegReg::Ds).limit = 0xFFFF'FFFF;
  load_segment(cpu, SegReg::Ds, 0x1234);
  EXPECT_EQ(segment_address(cpu, SegReg::Ds, 0x10'0000, 1, Access::Read), 0x11'2340U);
}

TEST_F(Segmentation, LongModeIgnoresLimitsAndBasesButThoseOfFsAndGs) {
  enter_long_mode(0);
  for (const SegReg reg : {SegReg::Ds, SegReg::Ss, SegReg::Gs}) state.seg(reg) = {0x1000, 0, Segment::kUnusable, 0};
  EXPECT_EQ(segment_address(cpu, SegReg::Ds, 0x5000, 8, Access::Write), 0x5000U);
  EXPECT_EQ(segment_address(cpu, SegReg::Ss, 0x5000, 8, Access::Write), 0x5000U);
  EXPECT_EQ(segment_address(cpu, SegReg::Gs, 0x5000, 8, Access::Write), 0x6000U);
}

TEST_F(Segmentation, LongModeAddressesMustBeCanonical) {
  enter_long_mode(0);
  EXPECT_FAULT_CODE(vector::kGp, 0, segment_address(cpu, SegReg::Ds, 0x8000'0000'0000, 1, Access::Read));
  EXPECT_FAULT_CODE(vector::kSs, 0, segment_address(cpu, SegReg::Ss, 0x8000'0000'0000, 1, Access::Read));
  EXPECT_FAULT(vector::kGp, segment_address(cpu, SegReg::Ds, 0x7FFF'FFFF'FFFF, 2, Access::Read));
  EXPECT_EQ(segment_address(cpu, SegReg::Ds, 0xFFFF'8000'0000'0000, 1, Access::Read), 0xFFFF'8000'0000'0000U);
  state.seg(SegReg::Fs).base = 0x7FFF'FFFF'F000;
  EXPECT_FAULT(vector::kGp, segment_address(cpu, SegReg::Fs, 0x1000, 1, Access::Read));
}

TEST_F(Segmentation, LoadsADataSegmentAndMarksItAccessed) {
  enter_protected_mode(0);
  set_descriptor(kFree, descriptor(0x12345678, 0xABCDE, 0xC092));
  load_segment(cpu, SegReg::Es, kFree);
  const Segment& es = state.seg(SegReg::Es);
  EXPECT_EQ(es.selector, kFree);
  EXPECT_EQ(es.base, 0x12345678U);
  EXPECT_EQ(es.limit, 0xABCDEFFFU);
  EXPECT_EQ(es.attributes, 0xC093U);
  EXPECT_EQ(descriptor_of(kFree), descriptor(0x12345678, 0xABCDE, 0xC093));
}

TEST_F(Segmentation, LoadsFromTheLdtWithinItsLimit) {
  enter_protected_mode(0);
  EXPECT_FAULT_CODE(vector::kGp, 0xC, load_segment(cpu, SegReg::Ds, 0xC));  // LDTR holds 64 KiB of nothing
  state.ldtr = {kLdtBase, 15, kPresent | kLdt, 0x30};
  poke_physical(kLdtBase + 8, descriptor(0x777000, 0xFFF, kDataAttributes));
  load_segment(cpu, SegReg::Ds, 0xC);
  EXPECT_EQ(state.seg(SegReg::Ds).base, 0x777000U);
  EXPECT_FAULT_CODE(vector::kGp, 0x14, load_segment(cpu, SegReg::Ds, 0x14));
  set_null_segment(state.ldtr, 0);
  EXPECT_FAULT_CODE(vector::kGp, 0xC, load_segment(cpu, SegReg::Ds, 0xC));
}

// SDM vol. 2, MOV: the protected-mode exceptions.
TEST_F(Segmentation, ChecksLoadsOfDataSegments) {
  struct Row {
    unsigned cpl;
    std::uint16_t selector;
    std::uint32_t attributes;
    int vector;  // 0xFF: none
  };
  const Row rows[] = {
      {0, kFree, kDataAttributes, 0xFF},
      {0, kFree | 3, kDataAttributes, vector::kGp},  // RPL above DPL
      {3, kFree | 3, kDataAttributes, vector::kGp},  // CPL above DPL
      {3, kFree, kDataAttributes, vector::kGp},
      {3, kFree | 3, with_dpl(kDataAttributes, 3), 0xFF},
      {0, kFree | 3, with_dpl(kDataAttributes, 3), 0xFF},
      {0, kFree, kReadOnlyData, 0xFF},
      {0, kFree, kCodeAttributes, 0xFF},
      {0, kFree, kExecuteOnly, vector::kGp},
      {3, kFree | 3, kCodeAttributes, vector::kGp},
      {3, kFree | 3, kCodeAttributes | 4, 0xFF},  // conforming: privilege does not matter
      {0, kFree, kPresent | kLdt, vector::kGp},
      {0, kFree, kDataAttributes & ~Segment::kP, vector::kNp},
      {0, 0x200, 0, vector::kGp},  // outside the GDT
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(::testing::Message() << std::hex << row.selector << " " << row.attributes << " CPL " << row.cpl);
    enter_protected_mode(row.cpl);
    if (row.selector < kGdtLimit) set_descriptor(row.selector, descriptor(0, 0xFFF, row.attributes));
    const Snapshot before = snapshot();
    const Fault fault = fault_of([&] { load_segment(cpu, SegReg::Ds, row.selector); });
    EXPECT_EQ(int{fault.vector}, row.vector);
    if (row.vector == 0xFF) continue;
    EXPECT_EQ(fault.error_code, row.selector & 0xFFFCU);
    EXPECT_EQ(snapshot(), before);
  }
}

TEST_F(Segmentation, ChecksLoadsOfTheStackSegment) {
  struct Row {
    unsigned cpl;
    std::uint16_t selector;
    std::uint32_t attributes;
    int vector;
  };
  const Row rows[] = {
      {0, kFree, kDataAttributes, 0xFF},
      {0, kFree, kExpandDown, 0xFF},
      {0, kFree | 3, kDataAttributes, vector::kGp},
      {0, kFree, with_dpl(kDataAttributes, 3), vector::kGp},
      {3, kFree | 3, with_dpl(kDataAttributes, 3), 0xFF},
      {3, kFree, with_dpl(kDataAttributes, 3), vector::kGp},
      {0, kFree, kReadOnlyData, vector::kGp},
      {0, kFree, kCodeAttributes, vector::kGp},
      {0, kFree, kDataAttributes & ~Segment::kP, vector::kSs},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(::testing::Message() << std::hex << row.selector << " " << row.attributes << " CPL " << row.cpl);
    enter_protected_mode(row.cpl);
    set_descriptor(row.selector, descriptor(0, 0xFFF, row.attributes));
    const Fault fault = fault_of([&] { load_segment(cpu, SegReg::Ss, row.selector); });
    EXPECT_EQ(int{fault.vector}, row.vector);
    if (row.vector != 0xFF) {
      EXPECT_EQ(fault.error_code, row.selector & 0xFFFCU);
    }
  }
}

TEST_F(Segmentation, NullMayBeLoadedButNotUsed) {
  enter_protected_mode(0);
  for (const std::uint16_t null : {0, 1, 2, 3}) {
    load_segment(cpu, SegReg::Fs, null);
    EXPECT_EQ(selector(SegReg::Fs), null);
    EXPECT_FAULT_CODE(vector::kGp, 0, segment_address(cpu, SegReg::Fs, 0, 1, Access::Read));
  }
  EXPECT_FAULT_CODE(vector::kGp, 0, load_segment(cpu, SegReg::Ss, 0));
}

TEST_F(Segmentation, NullStackSegmentIsFor64BitCodeBelowLevel3) {
  enter_long_mode(0);
  load_segment(cpu, SegReg::Ss, 0);
  EXPECT_EQ(state.cpl(), 0U);
  EXPECT_FAULT_CODE(vector::kGp, 0, load_segment(cpu, SegReg::Ss, 3));
  enter_long_mode(3);
  EXPECT_FAULT_CODE(vector::kGp, 0, load_segment(cpu, SegReg::Ss, 3));
  enter_long_mode(0, true);
  EXPECT_FAULT_CODE(vector::kGp, 0, load_segment(cpu, SegReg::Ss, 0));
}

TEST_F(Segmentation, Virtual8086LoadsReplaceLimitAndAttributes) {
  enter_virtual_8086_mode(0);
  state.seg(SegReg::Ds).limit = 0xFFFF'FFFF;
  load_segment(cpu, SegReg::Ds, 0xB800);
  EXPECT_EQ(state.seg(SegReg::Ds).base, 0xB8000U);
  EXPECT_EQ(state.seg(SegReg::Ds).limit, 0xFFFFU);
  EXPECT_EQ(state.seg(SegReg::Ds).attributes, 0xF3U);
}

TEST_F(Segmentation, LowPrivilegeReadsDescriptorsOfSupervisorPages) {
  enter_long_mode(3);
  for (std::uint64_t i = 0; i < 8; ++i) poke_physical(kPageTables + 0x2000 + 8 * i, (i << 21) | 0x83);
  cpu.mmu.flush_all();
  load_segment(cpu, SegReg::Ds, kUserData);
  EXPECT_EQ(selector(SegReg::Ds), kUserData);
}

TEST_F(Segmentation, ExpandDown16StopsAt64KiB) {
  enter_protected_mode(0);
  state.seg(SegReg::Es) = {0, 0xFFF, kExpandDown16, kFree};
  EXPECT_EQ(segment_address(cpu, SegReg::Es, 0xFFFE, 2, Access::Write), 0xFFFEU);
  EXPECT_FAULT(vector::kGp, segment_address(cpu, SegReg::Es, 0x10000, 2, Access::Write));
}

TEST_F(Segmentation, LoadsTheLocalDescriptorTableRegister) {
  enter_protected_mode(0);
  set_descriptor(kFree, descriptor(kLdtBase, 0xFF, kPresent | kLdt));
  load_ldtr(cpu, kFree);
  EXPECT_EQ(state.ldtr.base, kLdtBase);
  EXPECT_EQ(state.ldtr.limit, 0xFFU);
  load_ldtr(cpu, 0);
  EXPECT_TRUE(state.ldtr.unusable());

  EXPECT_FAULT_CODE(vector::kGp, 0x84, load_ldtr(cpu, 0x84));
  EXPECT_FAULT_CODE(vector::kGp, kData, load_ldtr(cpu, kData));
  EXPECT_FAULT_CODE(vector::kGp, 0x200, load_ldtr(cpu, 0x200));
  set_descriptor(kFree, descriptor(kLdtBase, 0xFF, (kPresent | kLdt) & kNotPresent));
  EXPECT_FAULT_CODE(vector::kNp, kFree, load_ldtr(cpu, kFree));
}

TEST_F(Segmentation, LoadsTheTaskRegisterAndMarksItBusy) {
  enter_protected_mode(0);
  set_descriptor(kFree, descriptor(0x123000, 0x67, kPresent | kTss32));
  load_task_register(cpu, kFree);
  EXPECT_EQ(state.tr.base, 0x123000U);
  EXPECT_EQ(state.tr.type(), unsigned{kTss32Busy});
  EXPECT_EQ(descriptor_of(kFree), descriptor(0x123000, 0x67, kPresent | kTss32Busy));

  EXPECT_FAULT_CODE(vector::kGp, kFree, load_task_register(cpu, kFree));  // busy now
  EXPECT_FAULT_CODE(vector::kGp, 0, load_task_register(cpu, 0));
  EXPECT_FAULT_CODE(vector::kGp, 0x2C, load_task_register(cpu, 0x2C));
  set_descriptor(kFree, descriptor(0x123000, 0x67, kTss32));
  EXPECT_FAULT_CODE(vector::kNp, kFree, load_task_register(cpu, kFree));
  set_descriptor(kFree, descriptor(0x123000, 0x2B, kPresent | kTss16));
  load_task_register(cpu, kFree);
  EXPECT_EQ(state.tr.type(), unsigned{kTss16Busy});
}

TEST_F(Segmentation, LongModeSystemDescriptorsHave16Bytes) {
  enter_long_mode(0);
  set_descriptor(kFree, descriptor(0x8765'4321, 0x67, kPresent | kTss32));
  set_descriptor(kFree + 8, 0xFFFF'8000);
  load_task_register(cpu, kFree);
  EXPECT_EQ(state.tr.base, 0xFFFF'8000'8765'4321U);

  set_descriptor(kFree, descriptor(0, 0x67, kPresent | kTss32));
  set_descriptor(kFree + 8, 0x1'0000);  // not canonical
  EXPECT_FAULT_CODE(vector::kGp, kFree, load_task_register(cpu, kFree));
  set_descriptor(kFree + 8, std::uint64_t{1} << 40);  // a type where there may be none
  EXPECT_FAULT_CODE(vector::kGp, kFree, load_task_register(cpu, kFree));
  set_descriptor(kFree, descriptor(0, 0x67, kPresent | kTss16));
  EXPECT_FAULT_CODE(vector::kGp, kFree, load_task_register(cpu, kFree));
  // The upper half lies outside the table.
  set_descriptor(0x1F8, descriptor(0, 0x67, kPresent | kTss32));
  EXPECT_FAULT_CODE(vector::kGp, 0x1F8, load_task_register(cpu, 0x1F8));
}

// SDM vol. 2, LAR and LSL: the descriptor types they accept.
TEST_F(Segmentation, ReportsRightsAndLimitsOfTheTypesInTheManual) {
  constexpr std::uint32_t kLar = 0b0001'1010'0011'1110, kLsl = 0b0000'1010'0000'1110;
  constexpr std::uint32_t kLarLong = 0b0001'1010'0000'0100, kLslLong = 0b0000'1010'0000'0100;
  for (const bool long_mode : {false, true}) {
    if (long_mode) {
      enter_long_mode(0);
    } else {
      enter_protected_mode(0);
    }
    for (unsigned type = 0; type < 16; ++type) {
      SCOPED_TRACE(::testing::Message() << "type " << type << (long_mode ? ", long mode" : ""));
      set_descriptor(kFree, descriptor(0, 0x123, kPresent | type));
      set_descriptor(kFree + 8, 0);
      std::uint32_t rights = 0, limit = 0;
      EXPECT_EQ(load_access_rights(cpu, kFree, rights), ((long_mode ? kLarLong : kLar) >> type & 1) != 0);
      EXPECT_EQ(load_segment_limit(cpu, kFree, limit), ((long_mode ? kLslLong : kLsl) >> type & 1) != 0);
    }
  }
}

TEST_F(Segmentation, ReportsWhatPrivilegeMaySee) {
  enter_protected_mode(3);
  std::uint32_t rights = 0, limit = 0;
  EXPECT_TRUE(load_access_rights(cpu, kUserData, rights));
  EXPECT_EQ(rights, 0xCFF300U) << "undefined bits are the descriptor's";
  EXPECT_TRUE(load_segment_limit(cpu, kUserData, limit));
  EXPECT_EQ(limit, 0xFFFF'FFFFU);
  EXPECT_FALSE(load_access_rights(cpu, kData, rights));
  EXPECT_TRUE(load_access_rights(cpu, kConforming, rights));
  EXPECT_FALSE(load_access_rights(cpu, 0, rights));
  EXPECT_FALSE(load_access_rights(cpu, 0x200, rights));
}

TEST_F(Segmentation, VerifiesReadingAndWriting) {
  enter_protected_mode(3);
  struct Row {
    std::uint32_t attributes;
    bool read, write;
  };
  const Row rows[] = {{with_dpl(kDataAttributes, 3), true, true},
                      {with_dpl(kReadOnlyData, 3), true, false},
                      {with_dpl(kCodeAttributes, 3), true, false},
                      {with_dpl(kExecuteOnly, 3), false, false},
                      {kDataAttributes, false, false},
                      {kCodeAttributes | 4, true, false},
                      {with_dpl(kPresent | kLdt, 3), false, false}};
  for (const Row& row : rows) {
    set_descriptor(kFree, descriptor(0, 0xFFF, row.attributes));
    EXPECT_EQ(verify_segment(cpu, kFree | 3, false), row.read) << std::hex << row.attributes;
    EXPECT_EQ(verify_segment(cpu, kFree | 3, true), row.write) << std::hex << row.attributes;
  }
  EXPECT_FALSE(verify_segment(cpu, 0, false));
}

}  // namespace
}  // namespace doppel::x86::test
