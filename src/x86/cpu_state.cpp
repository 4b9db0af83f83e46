#include "x86/cpu_state.h"

#include "state/visitor.h"

namespace doppel::x86 {

void CpuState::reset(bool init, bool bootstrap) {
  CpuState fresh;
  if (init) {
    // SDM vol. 3, table 9-1, the column "INIT": what is not listed here is as after power-up.
    fresh.cr0 = cr0::kEt | (cr0 & (cr0::kCd | cr0::kNw));
    fresh.xcr0 = xcr0;
    fresh.fpu = fpu;
    fresh.ymm = ymm;
    fresh.ferr = ferr;
    fresh.star = star;
    fresh.lstar = lstar;
    fresh.cstar = cstar;
    fresh.sfmask = sfmask;
    fresh.kernel_gs_base = kernel_gs_base;
    fresh.sysenter_cs = sysenter_cs;
    fresh.sysenter_esp = sysenter_esp;
    fresh.sysenter_eip = sysenter_eip;
    fresh.pat = pat;
    fresh.tsc_aux = tsc_aux;
    fresh.misc_enable = misc_enable;
    fresh.spec_ctrl = spec_ctrl;
    fresh.mcg_status = mcg_status;
    fresh.mtrr_def_type = mtrr_def_type;
    fresh.mtrr_fixed = mtrr_fixed;
    fresh.mtrr_variable = mtrr_variable;
    fresh.kvm_system_time = kvm_system_time;
    fresh.kvm_wall_clock = kvm_wall_clock;
    fresh.kvm_async_pf = kvm_async_pf;
    fresh.kvm_steal_time = kvm_steal_time;
    fresh.kvm_pv_eoi = kvm_pv_eoi;
    fresh.kvm_poll_control = kvm_poll_control;
    fresh.tsc_offset = tsc_offset;
    fresh.tsc_adjust = tsc_adjust;
  }
  if (!bootstrap) fresh.activity = Activity::WaitForSipi;
  *this = fresh;
}

void Segment::describe(state::Visitor& visitor) {
  visitor.field(1, "selector", selector);
  visitor.field(2, "base", base);
  visitor.field(3, "limit", limit);
  visitor.field(4, "attributes", attributes);
}

void TableRegister::describe(state::Visitor& visitor) {
  visitor.field(1, "base", base);
  visitor.field(2, "limit", limit);
}

void Ymm::describe(state::Visitor& visitor) {
  visitor.field(1, "qword", qword);
}

void FpuState::St::describe(state::Visitor& visitor) {
  visitor.field(1, "significand", significand);
  visitor.field(2, "sign_exponent", sign_exponent);
}

void FpuState::describe(state::Visitor& visitor) {
  visitor.field(1, "fcw", fcw);
  visitor.field(2, "fsw", fsw);
  visitor.field(3, "ftw", ftw);
  visitor.field(4, "fop", fop);
  visitor.field(5, "fip", fip);
  visitor.field(6, "fdp", fdp);
  visitor.field(7, "mxcsr", mxcsr);
  visitor.field(8, "st", st);
}

void CpuState::describe(state::Visitor& visitor) {
  visitor.field(1, "gpr", gpr);
  visitor.field(2, "rip", rip);
  std::uint64_t flags = rflags();
  visitor.field(3, "rflags", flags);
  if (visitor.is_loading()) set_rflags(flags);
  visitor.field(4, "segment", segment);
  visitor.field(5, "ldtr", ldtr);
  visitor.field(6, "tr", tr);
  visitor.field(7, "gdtr", gdtr);
  visitor.field(8, "idtr", idtr);

  visitor.field(10, "cr0", cr0);
  visitor.field(11, "cr2", cr2);
  visitor.field(12, "cr3", cr3);
  visitor.field(13, "cr4", cr4);
  visitor.field(14, "dr", dr);
  visitor.field(15, "dr6", dr6);
  visitor.field(16, "dr7", dr7);
  visitor.field(17, "xcr0", xcr0);
  visitor.field(18, "pdpte", pdpte);

  visitor.field(20, "efer", efer);
  visitor.field(21, "star", star);
  visitor.field(22, "lstar", lstar);
  visitor.field(23, "cstar", cstar);
  visitor.field(24, "sfmask", sfmask);
  visitor.field(25, "kernel_gs_base", kernel_gs_base);
  visitor.field(26, "sysenter_cs", sysenter_cs);
  visitor.field(27, "sysenter_esp", sysenter_esp);
  visitor.field(28, "sysenter_eip", sysenter_eip);
  visitor.field(29, "pat", pat);
  visitor.field(30, "tsc_offset", tsc_offset);
  visitor.field(31, "tsc_adjust", tsc_adjust);
  visitor.field(32, "tsc_aux", tsc_aux);
  visitor.field(33, "misc_enable", misc_enable);
  visitor.field(34, "spec_ctrl", spec_ctrl);
  visitor.field(35, "mcg_status", mcg_status);
  visitor.field(36, "mtrr_def_type", mtrr_def_type);
  visitor.field(37, "mtrr_fixed", mtrr_fixed);
  visitor.field(38, "mtrr_variable", mtrr_variable);
  visitor.field(40, "kvm_system_time", kvm_system_time);
  visitor.field(41, "kvm_wall_clock", kvm_wall_clock);
  visitor.field(42, "kvm_async_pf", kvm_async_pf);
  visitor.field(43, "kvm_steal_time", kvm_steal_time);
  visitor.field(44, "kvm_pv_eoi", kvm_pv_eoi);
  visitor.field(45, "kvm_poll_control", kvm_poll_control);

  visitor.field(50, "fpu", fpu);
  visitor.field(51, "ymm", ymm);

  visitor.field(60, "activity", activity);
  visitor.require(activity <= Activity::Shutdown, "a processor's activity is none that exists");
  visitor.field(61, "sipi_vector", sipi_vector);
  visitor.field(62, "sti_shadow", sti_shadow);
  visitor.field(63, "ss_shadow", ss_shadow);
  visitor.field(64, "nmi_blocked", nmi_blocked);
  visitor.field(65, "nmi_pending", nmi_pending);
  visitor.field(66, "pending_debug", pending_debug);
  visitor.field(67, "ferr", ferr);
}

}  // namespace doppel::x86
