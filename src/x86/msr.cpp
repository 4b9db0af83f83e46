#include "x86/msr.h"

#include "base/bits.h"
#include "x86/control_registers.h"
#include "x86/msr_numbers.h"
#include "x86/mtrr.h"
#include "x86/pvclock.h"

namespace doppel::x86 {

namespace {

using Feature = CpuidModel::Feature;

constexpr std::uint64_t kIbrs = bit(0), kStibp = bit(1);

void require(const Cpu& cpu, Feature feature) {
  if (!cpu.ports.cpuid.has(feature)) raise_gp();
}

std::uint64_t canonical(std::uint64_t value) {
  if (!is_canonical(value)) raise_gp();
  return value;
}

std::uint32_t only_low_half(std::uint64_t value) {
  if ((value >> 32) != 0) raise_gp();
  return static_cast<std::uint32_t>(value);
}

bool belongs_to_apic(std::uint32_t msr) {
  return msr == msr::kApicBase || msr == msr::kTscDeadline || (msr >= msr::kX2apicFirst && msr <= msr::kX2apicLast);
}

/// The TSC becomes `offset` ahead of the VM clock.
void move_tsc(Cpu& cpu, std::uint64_t offset) {
  cpu.state.tsc_adjust += offset - cpu.state.tsc_offset;
  cpu.state.tsc_offset = offset;
  cpu.ports.io.tsc_offset_changed(offset);
  update_system_time(cpu, false);
}

/// What AMD's processors have and Linux reads without catching #GP; false: not one of them. They have no effect here.
bool read_amd_msr(std::uint32_t msr, std::uint64_t& value) {
  switch (msr) {
    case msr::kHwcr:
      value = bit(24);  // TscFreqSel: the TSC counts at the P0 frequency
      return true;
    case msr::kDeCfg:
      value = bit(1);  // LFENCE serializes
      return true;
    case msr::kSysCfg:
    case msr::kNbCfg:
    case msr::kIntPending:
    case msr::kMmioConfBase:
    case msr::kVmHsavePa:
    case msr::kLsCfg:
    case msr::kDcCfg:
    case msr::kBuCfg2:
      value = 0;
      return true;
    default:
      return false;
  }
}

bool amd_write_ignored(std::uint32_t msr) {
  std::uint64_t unused = 0;
  return msr == msr::kPatchLoader || read_amd_msr(msr, unused);
}

bool is_amd(const Cpu& cpu) {
  return cpu.ports.cpuid.vendor() == CpuidModel::Vendor::Amd;
}

}  // namespace

std::uint64_t read_msr(Cpu& cpu, std::uint32_t msr) {
  const CpuState& state = cpu.state;
  std::uint64_t value = 0;
  if (belongs_to_apic(msr)) {
    if (!cpu.ports.io.read_apic_msr(msr, value)) raise_gp();
    return value;
  }
  if (is_mtrr(msr)) return read_mtrr(state, msr);
  if (is_amd(cpu) && read_amd_msr(msr, value)) return value;

  switch (msr) {
    case msr::kTimeStampCounter:
      return cpu.tsc();
    case msr::kTscAdjust:
      return state.tsc_adjust;
    case msr::kTscAux:
      return state.tsc_aux;
    case msr::kEfer:
      return state.efer;
    case msr::kStar:
      return state.star;
    case msr::kLstar:
      return state.lstar;
    case msr::kCstar:
      return state.cstar;
    case msr::kFmask:
      return state.sfmask;
    case msr::kFsBase:
      return state.seg(SegReg::Fs).base;
    case msr::kGsBase:
      return state.seg(SegReg::Gs).base;
    case msr::kKernelGsBase:
      return state.kernel_gs_base;
    case msr::kSysenterCs:
      return state.sysenter_cs;
    case msr::kSysenterEsp:
      return state.sysenter_esp;
    case msr::kSysenterEip:
      return state.sysenter_eip;
    case msr::kPat:
      return state.pat;
    case msr::kMiscEnable:
      return state.misc_enable;
    case msr::kMcgStatus:
      return state.mcg_status;
    case msr::kSpecCtrl:
      require(cpu, Feature::SpecCtrl);
      return state.spec_ctrl;
    case msr::kArchCapabilities:
      require(cpu, Feature::ArchCapabilities);
      return cpu.ports.cpuid.arch_capabilities();
    case msr::kBiosSignId:
      // A microcode revision that no guest takes for an outdated one; the forms are the vendors'.
      return is_amd(cpu) ? 0x0100'0065 : std::uint64_t{1} << 32;
    case msr::kFeatureControl:
      if (is_amd(cpu)) raise_gp();
      return 1;  // locked, nothing enabled
    case msr::kKvmWallClock:
    case msr::kKvmWallClockNew:
      return state.kvm_wall_clock;
    case msr::kKvmSystemTime:
    case msr::kKvmSystemTimeNew:
      return state.kvm_system_time;
    case msr::kP5McAddr:
    case msr::kP5McType:
    case msr::kPlatformId:
    case msr::kEblCrPoweron:
    case msr::kMcgCap:  // no banks
    case msr::kDebugCtl:
      return 0;
    default:
      if (msr >= msr::kLastBranchFromIp && msr <= msr::kLastIntToIp) return 0;
      raise_gp();
  }
}

void write_msr(Cpu& cpu, std::uint32_t msr, std::uint64_t value) {
  CpuState& state = cpu.state;
  if (belongs_to_apic(msr)) {
    if (!cpu.ports.io.write_apic_msr(msr, value)) raise_gp();
    return;
  }
  if (is_mtrr(msr)) return write_mtrr(cpu, msr, value);
  if (is_amd(cpu) && amd_write_ignored(msr)) return;

  switch (msr) {
    case msr::kTimeStampCounter:
      return move_tsc(cpu, state.tsc_offset + value - cpu.tsc());
    case msr::kTscAdjust:
      return move_tsc(cpu, state.tsc_offset + value - state.tsc_adjust);
    case msr::kTscAux:
      state.tsc_aux = only_low_half(value);
      return;
    case msr::kEfer:
      return write_efer(cpu, value);
    case msr::kStar:
      state.star = value;
      return;
    case msr::kLstar:
      state.lstar = canonical(value);
      return;
    case msr::kCstar:
      state.cstar = canonical(value);
      return;
    case msr::kFmask:
      state.sfmask = only_low_half(value);
      return;
    case msr::kFsBase:
      state.seg(SegReg::Fs).base = canonical(value);
      return;
    case msr::kGsBase:
      state.seg(SegReg::Gs).base = canonical(value);
      return;
    case msr::kKernelGsBase:
      state.kernel_gs_base = canonical(value);
      return;
    case msr::kSysenterCs:
      state.sysenter_cs = value & 0xFFFF'FFFF;
      return;
    case msr::kSysenterEsp:
      state.sysenter_esp = canonical(value);
      return;
    case msr::kSysenterEip:
      state.sysenter_eip = canonical(value);
      return;
    case msr::kPat:
      return write_pat(state, value);
    case msr::kMiscEnable:
      if ((value & ~low_mask(39)) != 0) raise_gp();
      state.misc_enable = value;
      return;
    case msr::kMcgStatus:
      if (value != 0) raise_gp();
      state.mcg_status = 0;
      return;
    case msr::kSpecCtrl:
      require(cpu, Feature::SpecCtrl);
      if ((value & ~(kIbrs | kStibp)) != 0) raise_gp();
      state.spec_ctrl = value;
      return;
    case msr::kPredCmd:
      require(cpu, Feature::Ibpb);
      if ((value & ~bit(0)) != 0) raise_gp();
      return;
    case msr::kDebugCtl:
      // LBR and BTF are not offered: a guest that sets them anyway finds them clear.
      if ((value & ~low_mask(2)) != 0) raise_gp();
      return;
    case msr::kKvmWallClock:
    case msr::kKvmWallClockNew:
      state.kvm_wall_clock = value;
      return update_wall_clock(cpu);
    case msr::kKvmSystemTime:
    case msr::kKvmSystemTimeNew:
      state.kvm_system_time = value;
      return update_system_time(cpu, false);
    case msr::kBiosSignId:  // written before CPUID is asked for the revision
    case msr::kBiosUpdtTrig:
    case msr::kEblCrPoweron:
      return;
    default:
      raise_gp();
  }
}

}  // namespace doppel::x86
