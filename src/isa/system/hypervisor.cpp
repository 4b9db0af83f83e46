#include "isa/system/operands.h"
#include "isa/system/ops.h"

/// Calls to the hypervisor in KVM's paravirtual convention (Linux, Documentation/virt/kvm/x86/hypercalls.rst).
namespace doppel::isa {
namespace {

constexpr std::int64_t kEnosys = -1000, kEperm = -1;  // KVM_ENOSYS and KVM_EPERM

/// No call is offered in CPUID, so every number is unknown; user programs may not even ask.
void hypercall(x86::Cpu& cpu, const Insn&) {
  const std::int64_t result = cpu.state.cpl() == 0 ? kEnosys : kEperm;
  write_gpr(cpu.state, x86::kRax, cpu.state.code_64() ? 8 : 4, static_cast<std::uint64_t>(result));
}

constexpr SystemEntry kOps[] = {
    {ZYDIS_MNEMONIC_VMCALL, hypercall},
    {ZYDIS_MNEMONIC_VMMCALL, hypercall},
};

}  // namespace

std::span<const SystemEntry> hypervisor_ops() {
  return kOps;
}

}  // namespace doppel::isa
