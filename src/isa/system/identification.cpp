#include "isa/fpu_checks.h"
#include "isa/system/checks.h"
#include "isa/system/operands.h"
#include "isa/system/ops.h"
#include "x86/control_registers.h"
#include "x86/msr.h"
#include "x86/xstate.h"

/// What the processor tells about itself: CPUID, model-specific registers, time-stamp counter, XCR0.
namespace doppel::isa {
namespace {

using x86::Cpu;
using Feature = x86::CpuidModel::Feature;

std::uint32_t low_half(std::uint64_t value) {
  return static_cast<std::uint32_t>(value);
}

/// EDX:EAX, the upper halves of both registers cleared.
std::uint64_t read_edx_eax(const x86::CpuState& state) {
  return (state.gpr[x86::kRdx] << 32) | low_half(state.gpr[x86::kRax]);
}
void write_edx_eax(x86::CpuState& state, std::uint64_t value) {
  state.gpr[x86::kRax] = low_half(value);
  state.gpr[x86::kRdx] = value >> 32;
}

void cpuid(Cpu& cpu, const Insn&) {
  auto& gpr = cpu.state.gpr;
  const x86::CpuidModel::Context context{cpu.ports.io.apic_id(), cpu.state.cr4, cpu.state.xcr0, cpu.state.misc_enable};
  const x86::CpuidResult result = cpu.ports.cpuid.query(low_half(gpr[x86::kRax]), low_half(gpr[x86::kRcx]), context);
  gpr[x86::kRax] = result.eax;
  gpr[x86::kRbx] = result.ebx;
  gpr[x86::kRcx] = result.ecx;
  gpr[x86::kRdx] = result.edx;
}

void rdmsr(Cpu& cpu, const Insn&) {
  require_cpl0(cpu);
  write_edx_eax(cpu.state, x86::read_msr(cpu, low_half(cpu.state.gpr[x86::kRcx])));
}

void wrmsr(Cpu& cpu, const Insn&) {
  require_cpl0(cpu);
  x86::write_msr(cpu, low_half(cpu.state.gpr[x86::kRcx]), read_edx_eax(cpu.state));
}

void require_tsc(const Cpu& cpu) {
  if ((cpu.state.cr4 & x86::cr4::kTsd) != 0 && cpu.state.cpl() > 0) x86::raise_gp();
}

void rdtsc(Cpu& cpu, const Insn&) {
  require_tsc(cpu);
  write_edx_eax(cpu.state, cpu.tsc());
}

void rdtscp(Cpu& cpu, const Insn&) {
  require_feature(cpu, Feature::Rdtscp);
  require_tsc(cpu);
  write_edx_eax(cpu.state, cpu.tsc());
  cpu.state.gpr[x86::kRcx] = cpu.state.tsc_aux;
}

void rdpid(Cpu& cpu, const Insn& insn) {
  require_feature(cpu, Feature::Rdpid);
  cpu.state.gpr[insn.op[0].reg] = cpu.state.tsc_aux;
}

/// The model has no performance counters.
void rdpmc(Cpu&, const Insn&) {
  x86::raise_gp();
}

void xgetbv(Cpu& cpu, const Insn&) {
  require_osxsave(cpu);
  write_edx_eax(cpu.state, x86::read_xcr(cpu, low_half(cpu.state.gpr[x86::kRcx])));
}

void xsetbv(Cpu& cpu, const Insn&) {
  require_osxsave(cpu);
  require_cpl0(cpu);
  if (low_half(cpu.state.gpr[x86::kRcx]) != 0) x86::raise_gp();
  x86::write_xcr0(cpu, read_edx_eax(cpu.state));
}

constexpr SystemEntry kOps[] = {
    {ZYDIS_MNEMONIC_CPUID, cpuid}, {ZYDIS_MNEMONIC_RDMSR, rdmsr},   {ZYDIS_MNEMONIC_WRMSR, wrmsr},
    {ZYDIS_MNEMONIC_RDTSC, rdtsc}, {ZYDIS_MNEMONIC_RDTSCP, rdtscp}, {ZYDIS_MNEMONIC_RDPID, rdpid},
    {ZYDIS_MNEMONIC_RDPMC, rdpmc}, {ZYDIS_MNEMONIC_XGETBV, xgetbv}, {ZYDIS_MNEMONIC_XSETBV, xsetbv},
};

}  // namespace

std::span<const SystemEntry> identification_ops() {
  return kOps;
}

}  // namespace doppel::isa
