#include "x86/xstate.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <vector>

#include "x86/fake_platform.h"
#include "x86/page_tables.h"

namespace doppel::x86 {
namespace {

class XstateTest : public test::CpuTest {
 protected:
  static constexpr std::uint64_t kArea = 0x10'0000;

  void SetUp() override {
    test::enter_long_mode(cpu);
    for (std::uint64_t page = 0; page < 4; ++page)
      tables.map(kArea + page * 0x1000, kArea + page * 0x1000, Tables::kP | Tables::kRw | Tables::kUs);
    cpu.state.xcr0 = cpuid.supported_xcr0();
    fill_state();
  }

  /// A different value in every field.
  void fill_state() {
    FpuState& fpu = cpu.state.fpu;
    fpu.fcw = 0x027F;
    fpu.fsw = 0x3800;
    fpu.ftw = 0x81;
    fpu.fop = 0x123;
    fpu.fip = 0x1111'2222'3333'4444;
    fpu.fdp = 0x5555'6666'7777'8888;
    fpu.mxcsr = 0x1FA0;
    for (unsigned i = 0; i < 8; ++i)
      fpu.st[i] = {0x8000'0000'0000'0000 + i, static_cast<std::uint16_t>(0x3FFF + i), {}};
    for (std::uint64_t i = 0; i < 16; ++i) cpu.state.ymm[i].qword = {0x100 + i, 0x200 + i, 0x300 + i, 0x400 + i};
  }
  void fill_memory(std::uint8_t value, std::uint64_t size = kXsaveSize) {
    for (std::uint64_t i = 0; i < size; ++i) poke_physical(kArea + i, value);
  }
  void leave_64_bit_mode() { cpu.state.seg(SegReg::Cs).attributes &= ~Segment::kL; }
  std::vector<std::byte> saved_state() {
    const CpuState& state = cpu.state;
    std::vector<std::byte> bytes(sizeof state.fpu + sizeof state.ymm);
    std::memcpy(bytes.data(), &state.fpu, sizeof state.fpu);
    std::memcpy(bytes.data() + sizeof state.fpu, state.ymm.data(), sizeof state.ymm);
    return bytes;
  }
  void wipe_state() {
    cpu.state.fpu = FpuState{};
    cpu.state.ymm = {};
  }
  bool has_avx() const { return (cpuid.supported_xcr0() & xcr0::kAvx) != 0; }

  using Tables = test::FourLevelTables;
  Tables tables{memory};
};

// SDM vol. 1, table 10-2.
TEST_F(XstateTest, FxsavePutsEveryFieldWhereTheManualSays) {
  fill_memory(0xCC);
  fxsave(cpu, kArea, true);
  EXPECT_EQ(peek_physical<std::uint16_t>(kArea + 0), 0x027FU);
  EXPECT_EQ(peek_physical<std::uint16_t>(kArea + 2), 0x3800U);
  EXPECT_EQ(peek_physical<std::uint8_t>(kArea + 4), 0x81U);
  EXPECT_EQ(peek_physical<std::uint16_t>(kArea + 6), 0x123U);
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 8), 0x1111'2222'3333'4444U);
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 16), 0x5555'6666'7777'8888U);
  EXPECT_EQ(peek_physical<std::uint32_t>(kArea + 24), 0x1FA0U);
  EXPECT_EQ(peek_physical<std::uint32_t>(kArea + 28), 0xFFFFU);
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 32 + 16 * 7), 0x8000'0000'0000'0007U);
  EXPECT_EQ(peek_physical<std::uint16_t>(kArea + 40 + 16 * 7), 0x4006U);
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 160 + 16 * 15), 0x10FU);
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 168 + 16 * 15), 0x20FU);
  EXPECT_EQ(peek_physical<std::uint8_t>(kArea + 416), 0xCCU) << "what follows is software's";
}

TEST_F(XstateTest, FxsaveWithoutRexWKeeps32BitPointers) {
  fill_memory(0xCC);
  fxsave(cpu, kArea, false);
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 8), 0x3333'4444U) << "FCS is deprecated and 0";
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 16), 0x7777'8888U);
}

TEST_F(XstateTest, Outside64BitModeThereAreEightRegisters) {
  leave_64_bit_mode();
  fill_memory(0xCC);
  fxsave(cpu, kArea, false);
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 160 + 16 * 7), 0x107U);
  EXPECT_EQ(peek_physical<std::uint8_t>(kArea + 160 + 16 * 8), 0xCCU);
  poke_physical<std::uint32_t>(kArea + 24, 0x1F80);
  fxrstor(cpu, kArea, false);
  EXPECT_EQ(cpu.state.ymm[8].qword[0], 0x108U) << "untouched";
}

TEST_F(XstateTest, FxrstorBringsBackWhatFxsaveSaved) {
  fxsave(cpu, kArea, true);
  const std::vector<std::byte> before = saved_state();
  const auto upper = cpu.state.ymm;
  wipe_state();
  cpu.state.ymm = upper;
  for (Ymm& ymm : cpu.state.ymm) ymm.qword[0] = ymm.qword[1] = 0;
  fxrstor(cpu, kArea, true);
  EXPECT_EQ(saved_state(), before);
}

TEST_F(XstateTest, ImagesMustBeAligned) {
  for (const unsigned misalignment : {1U, 8U}) {
    EXPECT_FAULT_CODE(vector::kGp, 0, fxsave(cpu, kArea + misalignment, true));
    EXPECT_FAULT_CODE(vector::kGp, 0, fxrstor(cpu, kArea + misalignment, true));
  }
  EXPECT_FAULT(kNoFault, fxsave(cpu, kArea + 16, true));
  EXPECT_FAULT_CODE(vector::kGp, 0, xsave(cpu, kArea + 32, 7, XsaveKind::Xsave, true));
  EXPECT_FAULT_CODE(vector::kGp, 0, xrstor(cpu, kArea + 32, 7, true));
}

TEST_F(XstateTest, ReservedBitsOfMxcsrFaultWithNothingChanged) {
  fxsave(cpu, kArea, true);
  poke_physical<std::uint32_t>(kArea + 24, 0x1'0000);
  poke_physical<std::uint16_t>(kArea, 0x037F);
  const std::vector<std::byte> before = saved_state();
  EXPECT_FAULT_CODE(vector::kGp, 0, fxrstor(cpu, kArea, true));
  EXPECT_EQ(saved_state(), before);
  EXPECT_FAULT_CODE(vector::kGp, 0, load_mxcsr(cpu, 0x1'0000));
  load_mxcsr(cpu, 0xFFC0);
  EXPECT_EQ(cpu.state.fpu.mxcsr, 0xFFC0U);
}

TEST_F(XstateTest, AnImageWhoseEndIsMissingIsNotBegun) {
  constexpr std::uint64_t kLate = kArea + 0x3FC0;  // the next page is not mapped
  for (std::uint64_t i = 0; i < 64; ++i) poke_physical<std::uint8_t>(kLate + i, 0xCC);
  const auto expect_page_fault = [&](const std::function<void()>& action) {
    const Fault fault = fault_of(action);
    EXPECT_EQ(fault.vector, vector::kPf);
    EXPECT_EQ(fault.address, kArea + 0x4000);
  };
  expect_page_fault([&] { fxsave(cpu, kLate, true); });
  expect_page_fault([&] { xsave(cpu, kLate, 7, XsaveKind::Xsave, true); });
  expect_page_fault([&] { xsave(cpu, kLate, 7, XsaveKind::Xsaveopt, true); });
  expect_page_fault([&] { xsave(cpu, kLate, 7, XsaveKind::Xsavec, true); });
  expect_page_fault([&] { fnsave(cpu, kLate, 4); });
  for (std::uint64_t i = 0; i < 64; ++i) ASSERT_EQ(peek_physical<std::uint8_t>(kLate + i), 0xCCU);
  const std::vector<std::byte> before = saved_state();
  expect_page_fault([&] { fxrstor(cpu, kLate, true); });
  expect_page_fault([&] { xrstor(cpu, kLate, 7, true); });
  expect_page_fault([&] { frstor(cpu, kLate, 4); });
  EXPECT_EQ(saved_state(), before);
}

TEST_F(XstateTest, XrstorBringsBackWhatAnyXsaveSaved) {
  for (const XsaveKind kind : {XsaveKind::Xsave, XsaveKind::Xsaveopt, XsaveKind::Xsavec}) {
    if (kind == XsaveKind::Xsavec && !cpuid.has(CpuidModel::Feature::Xsavec)) continue;
    fill_state();
    if (!has_avx()) {
      for (Ymm& ymm : cpu.state.ymm) ymm.qword[2] = ymm.qword[3] = 0;
    }
    const std::vector<std::byte> before = saved_state();
    fill_memory(0);
    xsave(cpu, kArea, 7, kind, true);
    wipe_state();
    xrstor(cpu, kArea, 7, true);
    EXPECT_EQ(saved_state(), before) << static_cast<int>(kind);
  }
}

TEST_F(XstateTest, AvxHalvesLieAt576) {
  if (!has_avx()) GTEST_SKIP() << "this host has no AVX";
  xsave(cpu, kArea, 7, XsaveKind::Xsave, true);
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 512), 7U);
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 520), 0U);
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 576 + 16 * 15), 0x30FU);
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 584 + 16 * 15), 0x40FU);
}

TEST_F(XstateTest, XsaveTouchesTheRequestedComponentsOnly) {
  for (std::uint64_t requested = 0; requested <= cpuid.supported_xcr0(); ++requested) {
    fill_memory(0xCC);
    poke_physical<std::uint64_t>(kArea + 512, 0x8000'0000'0000'0007);
    xsave(cpu, kArea, requested, XsaveKind::Xsave, true);
    const auto written = [&](std::uint64_t offset) {
      return peek_physical<std::uint64_t>(kArea + offset) != 0xCCCC'CCCC'CCCC'CCCC;
    };
    EXPECT_EQ(written(0), (requested & 1) != 0) << requested;
    EXPECT_EQ(written(32), (requested & 1) != 0) << requested;
    EXPECT_EQ(written(24), (requested & 6) != 0) << requested;
    EXPECT_EQ(written(160), (requested & 2) != 0) << requested;
    EXPECT_EQ(written(576), (requested & 4) != 0) << requested;
    EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 512), 0x8000'0000'0000'0007U) << "the others' bits stay";
    EXPECT_FALSE(written(520)) << "nor is the rest of the header written";
  }
}

TEST_F(XstateTest, InitialComponentsAreReportedAndOptimized) {
  wipe_state();
  cpu.state.ymm[3].qword[1] = 1;  // SSE in use, nothing else
  fill_memory(0xCC);
  poke_physical<std::uint64_t>(kArea + 512, 0);
  xsave(cpu, kArea, 7, XsaveKind::Xsaveopt, true);
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 512), 2U);
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea), 0xCCCC'CCCC'CCCC'CCCCU) << "the initial x87 state is not written";
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 168 + 16 * 3), 1U);
  EXPECT_EQ(read_xcr(cpu, 1), 2U);

  fill_memory(0xCC);
  poke_physical<std::uint64_t>(kArea + 512, 0);
  xsave(cpu, kArea, 7, XsaveKind::Xsave, true);
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 512), 2U);
  EXPECT_EQ(peek_physical<std::uint16_t>(kArea), 0x37FU) << "XSAVE writes it all the same";
}

TEST_F(XstateTest, CompactedImagesNameTheirComponents) {
  wipe_state();
  cpu.state.fpu.mxcsr = 0x1FA0;
  fill_memory(0xCC);
  xsave(cpu, kArea, 3, XsaveKind::Xsavec, true);
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 512), 2U) << "an MXCSR of its own makes SSE be in use";
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 520), bit(63) | 3);
  EXPECT_EQ(peek_physical<std::uint32_t>(kArea + 24), 0x1FA0U);
  cpu.state.fpu.mxcsr = 0x1F80;
  xsave(cpu, kArea, 3, XsaveKind::Xsavec, true);
  EXPECT_EQ(peek_physical<std::uint64_t>(kArea + 512), 0U);
}

TEST_F(XstateTest, XrstorInitializesWhatTheImageLacks) {
  fill_memory(0);
  poke_physical<std::uint32_t>(kArea + 24, 0x1F00);
  xrstor(cpu, kArea, 1, true);
  EXPECT_EQ(cpu.state.fpu.fcw, 0x37FU);
  EXPECT_EQ(cpu.state.fpu.st[3].significand, 0U);
  EXPECT_EQ(cpu.state.fpu.mxcsr, 0x1FA0U) << "x87 alone leaves MXCSR";
  EXPECT_EQ(cpu.state.ymm[2].qword[0], 0x102U);
  xrstor(cpu, kArea, 2, true);
  EXPECT_EQ(cpu.state.ymm[2].qword[0], 0U);
  EXPECT_EQ(cpu.state.ymm[2].qword[2], 0x302U);
  EXPECT_EQ(cpu.state.fpu.mxcsr, 0x1F00U) << "the standard form loads MXCSR whatever XSTATE_BV says";
  if (has_avx()) {
    xrstor(cpu, kArea, 4, true);
    EXPECT_EQ(cpu.state.ymm[2].qword[2], 0U);
  }
  if (!cpuid.has(CpuidModel::Feature::Xsavec)) return;
  poke_physical<std::uint64_t>(kArea + 520, bit(63) | 3);
  xrstor(cpu, kArea, 2, true);
  EXPECT_EQ(cpu.state.fpu.mxcsr, 0x1F80U) << "the compacted form initializes it";
}

// SDM vol. 1, 13.8.
TEST_F(XstateTest, XrstorRefusesBadHeaders) {
  struct Case {
    const char* why;
    std::uint64_t xstate_bv, xcomp_bv, third, last;
    bool refused;
  };
  const std::uint64_t kCompacted = bit(63);
  const bool compaction = cpuid.has(CpuidModel::Feature::Xsavec);
  for (const Case& c :
       {Case{"a component that XCR0 lacks", bit(9), 0, 0, 0, true},
        Case{"XCOMP_BV without its bit 63", 3, 3, 0, 0, true}, Case{"reserved bytes 16 to 23", 3, 0, 1, 0, true},
        Case{"bytes 24 to 63 of the standard form are free", 3, 0, 0, 1, false},
        Case{"a good compacted one", 3, kCompacted | 3, 0, 0, !compaction},
        Case{"a component that XCOMP_BV lacks", 3, kCompacted | 1, 0, 0, true},
        Case{"XCOMP_BV beyond XCR0", 3, kCompacted | 3 | bit(9), 0, 0, true},
        Case{"reserved bytes of the compacted form", 3, kCompacted | 3, 0, 1, true}}) {
    fill_memory(0);
    poke_physical<std::uint16_t>(kArea, 0x37F);
    poke_physical<std::uint32_t>(kArea + 24, 0x1F80);
    poke_physical(kArea + 512, c.xstate_bv);
    poke_physical(kArea + 520, c.xcomp_bv);
    poke_physical(kArea + 528, c.third);
    poke_physical(kArea + 568, c.last);
    fill_state();
    const std::vector<std::byte> before = saved_state();
    EXPECT_FAULT(c.refused ? vector::kGp : kNoFault, xrstor(cpu, kArea, 3, true)) << c.why;
    if (c.refused) {
      EXPECT_EQ(saved_state(), before) << c.why;
    }
  }
}

TEST_F(XstateTest, AreaSizesFollowTheComponents) {
  EXPECT_EQ(xsave_area_size(1, false), 576U);
  EXPECT_EQ(xsave_area_size(3, true), 576U);
  EXPECT_EQ(xsave_area_size(7, false), 832U);
  EXPECT_EQ(xsave_area_size(5, true), 832U);
}

TEST_F(XstateTest, XgetbvKnowsTwoRegisters) {
  EXPECT_EQ(read_xcr(cpu, 0), cpuid.supported_xcr0());
  EXPECT_FAULT_CODE(vector::kGp, 0, read_xcr(cpu, 2));
}

TEST_F(XstateTest, PendingX87ErrorsAreSummedUpOnRestore) {
  fxsave(cpu, kArea, true);
  poke_physical<std::uint16_t>(kArea, 0x037E);      // #IA unmasked
  poke_physical<std::uint16_t>(kArea + 2, 0x0001);  // and there
  fxrstor(cpu, kArea, true);
  EXPECT_EQ(cpu.state.fpu.fsw, 0x8081U);
}

}  // namespace
}  // namespace doppel::x86
