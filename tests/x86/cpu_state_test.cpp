#include "x86/cpu_state.h"

#include <gtest/gtest.h>

#include "state/contract.h"

namespace doppel::x86 {
namespace {

TEST(CpuState, KeepsTheContractOfDescribedState) {
  CpuState state;
  test::expect_contract(
      state, [&] { state.reset(false, true); },
      [&] {
        for (std::size_t i = 0; i < 16; ++i) {
          state.gpr[i] = 0x0123'4567'89AB'CDEF + i;
          state.ymm[i].qword = {i, i + 1, i + 2, i + 3};
        }
        state.set_rflags(0xED7);
        state.rip = 0xFFFF'8000'0000'1234;
        for (Segment& segment : state.segment) segment = {0x1'0000, 0xFFFF'FFFF, 0xA09B, 0x10};
        state.ldtr.selector = 0x28;
        state.tr.base = 0x9000;
        state.gdtr = {0x5000, 0x7F};
        state.idtr = {0x6000, 0xFFF};
        state.cr0 = 0x8005'0033;
        state.cr2 = 1;
        state.cr3 = 0x1000;
        state.cr4 = 0x6F0;
        state.dr = {1, 2, 3, 4};
        state.dr6 = 0xFFFF'4FF0;
        state.dr7 = 0x401;
        state.xcr0 = 7;
        state.pdpte = {1, 2, 3, 4};
        state.efer = 0xD01;
        state.star = state.lstar = state.cstar = state.sfmask = state.kernel_gs_base = 5;
        state.sysenter_cs = state.sysenter_esp = state.sysenter_eip = 6;
        state.pat = 0;
        state.tsc_offset = state.tsc_adjust = 9;
        state.tsc_aux = 3;
        state.misc_enable = 0;
        state.spec_ctrl = 1;
        state.mcg_status = 4;
        state.mtrr_def_type = 0;
        state.mtrr_fixed.fill(6);
        state.mtrr_variable.fill(6);
        state.kvm_system_time = state.kvm_wall_clock = state.kvm_async_pf = state.kvm_steal_time = state.kvm_pv_eoi = 1;
        state.kvm_poll_control = 0;
        state.fpu.fcw = 0x27F;
        state.fpu.fsw = 0x3800;
        state.fpu.ftw = 0x80;
        state.fpu.fop = 0x123;
        state.fpu.fip = 0x1111;
        state.fpu.fdp = 0x2222;
        state.fpu.mxcsr = 0x1FA0;
        for (FpuState::St& st : state.fpu.st) st = {0x8000'0000'0000'0000, 0x3FFF, {}};
        state.activity = Activity::Halted;
        state.sipi_vector = 0x9A;
        state.sti_shadow = state.ss_shadow = state.nmi_blocked = state.nmi_pending = state.ferr = true;
        state.pending_debug = 0x4000;
      });
}

TEST(CpuState, HasTheGoldenSchema) {
  CpuState state;
  test::expect_schema("cpu_state", state);
}

// SDM vol. 3, table 9-1.
TEST(CpuState, PowersUpAsTheManualSays) {
  const CpuState state;
  EXPECT_EQ(state.rflags(), 2U);
  EXPECT_EQ(state.rip, 0xFFF0U);
  EXPECT_EQ(state.cr0, 0x6000'0010U);
  EXPECT_EQ(state.cr2 | state.cr3 | state.cr4, 0U);
  const Segment& cs = state.seg(SegReg::Cs);
  EXPECT_EQ(cs.selector, 0xF000U);
  EXPECT_EQ(cs.base, 0xFFFF'0000U);
  EXPECT_EQ(cs.limit, 0xFFFFU);
  EXPECT_EQ(cs.attributes, 0x93U);
  for (const SegReg reg : {SegReg::Ss, SegReg::Ds, SegReg::Es, SegReg::Fs, SegReg::Gs}) {
    EXPECT_EQ(state.seg(reg).selector, 0U);
    EXPECT_EQ(state.seg(reg).base, 0U);
    EXPECT_EQ(state.seg(reg).limit, 0xFFFFU);
    EXPECT_EQ(state.seg(reg).attributes, 0x93U);
  }
  EXPECT_EQ(state.gdtr.limit, 0xFFFFU);
  EXPECT_EQ(state.idtr.limit, 0xFFFFU);
  EXPECT_EQ(state.ldtr.attributes, 0x82U);
  EXPECT_EQ(state.tr.attributes, 0x8BU);
  EXPECT_EQ(state.dr6, 0xFFFF'0FF0U);
  EXPECT_EQ(state.dr7, 0x400U);
  EXPECT_EQ(state.xcr0, 1U);
  EXPECT_EQ(state.fpu.mxcsr, 0x1F80U);
  EXPECT_EQ(state.pat, 0x0007'0406'0007'0406U);
  EXPECT_EQ(state.efer, 0U);
  EXPECT_EQ(state.activity, Activity::Running);
}

TEST(CpuState, AnApplicationProcessorWaitsForItsStartup) {
  CpuState state;
  state.reset(false, false);
  EXPECT_EQ(state.activity, Activity::WaitForSipi);
  state.reset(true, false);
  EXPECT_EQ(state.activity, Activity::WaitForSipi);
}

TEST(CpuState, InitKeepsWhatTheManualKeeps) {
  CpuState state;
  state.gpr[kRbx] = 5;
  state.cr0 = 0x8000'0031;  // CD and NW clear
  state.cr3 = 0x1000;
  state.cr4 = 0x20;
  state.efer = 0xD01;
  state.lstar = 0x1234;
  state.pat = 0x0606'0606'0606'0606;
  state.mtrr_def_type = 0x806;
  state.mtrr_fixed[3] = 6;
  state.mtrr_variable[2] = 0x8000'0006;
  state.xcr0 = 7;
  state.fpu.fcw = 0x27F;
  state.fpu.mxcsr = 0x1FA0;
  state.ymm[15].qword[3] = 77;
  state.tsc_offset = 99;
  state.tsc_aux = 3;
  state.dr = {1, 2, 3, 4};
  state.activity = Activity::Halted;
  state.nmi_blocked = true;
  state.pending_debug = 1;
  state.reset(true, true);

  EXPECT_EQ(state.cr0, 0x10U) << "CD and NW keep their values";
  EXPECT_EQ(state.lstar, 0x1234U);
  EXPECT_EQ(state.pat, 0x0606'0606'0606'0606U);
  EXPECT_EQ(state.mtrr_def_type, 0x806U);
  EXPECT_EQ(state.mtrr_fixed[3], 6U);
  EXPECT_EQ(state.mtrr_variable[2], 0x8000'0006U);
  EXPECT_EQ(state.xcr0, 7U);
  EXPECT_EQ(state.fpu.fcw, 0x27FU);
  EXPECT_EQ(state.fpu.mxcsr, 0x1FA0U);
  EXPECT_EQ(state.ymm[15].qword[3], 77U);
  EXPECT_EQ(state.tsc_offset, 99U);
  EXPECT_EQ(state.tsc_aux, 3U);

  EXPECT_EQ(state.gpr[kRbx], 0U);
  EXPECT_EQ(state.cr3 | state.cr4 | state.efer, 0U);
  EXPECT_EQ(state.dr[0], 0U);
  EXPECT_EQ(state.rip, 0xFFF0U);
  EXPECT_EQ(state.activity, Activity::Running);
  EXPECT_FALSE(state.nmi_blocked);
  EXPECT_EQ(state.pending_debug, 0U);

  state.cr0 = 0x6000'0011;
  state.reset(true, true);
  EXPECT_EQ(state.cr0, 0x6000'0010U);
}

TEST(CpuState, RefusesAnActivityThatDoesNotExist) {
  CpuState state;
  state.activity = static_cast<Activity>(9);
  const auto describe = test::describe_of(state);
  const std::vector<std::byte> saved = state::save(describe);
  state.activity = Activity::Running;
  EXPECT_FALSE(state::load(saved, describe).ok());
  EXPECT_EQ(state.activity, Activity::Running);
}

}  // namespace
}  // namespace doppel::x86
