#pragma once

#include "x86/cpu.h"

/// kvmclock: pages in guest memory that turn the TSC into nanoseconds (Linux, Documentation/virt/kvm/x86/msr.rst,
/// KVM_SYSTEM_TIME and KVM_WALL_CLOCK). The TSC runs at 1 GHz of VM time, so the conversion is a constant.
namespace doppel::x86 {

/// Fills this vCPU's pvclock_vcpu_time_info where CpuState::kvm_system_time says, if it is enabled. `was_paused` tells
/// the guest that it did not run for a while, so that its watchdogs stay quiet. For the MSR write, writes of the TSC,
/// and Attention::kResumed, which the machine sets with each resume.
void update_system_time(Cpu& cpu, bool was_paused);

/// Fills the wall clock structure (the real time at VM time 0) where CpuState::kvm_wall_clock says, if it was ever set.
void update_wall_clock(Cpu& cpu);

}  // namespace doppel::x86
