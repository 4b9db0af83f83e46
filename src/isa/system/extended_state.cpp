#include "isa/fpu_checks.h"
#include "isa/system/checks.h"
#include "isa/system/operands.h"
#include "isa/system/ops.h"
#include "x86/xstate.h"

/// Saving and restoring x87, MMX, SSE and AVX state: the checks before the access. The images are x86/xstate.h.
namespace doppel::isa {
namespace {

using x86::Access;
using x86::Cpu;
using x86::XsaveKind;
using Feature = x86::CpuidModel::Feature;

std::uint64_t requested_components(const Cpu& cpu) {
  return (cpu.state.gpr[x86::kRdx] << 32) | (cpu.state.gpr[x86::kRax] & low_mask(32));
}

/// The image's address. A misaligned one faults as such (in x86::fxsave()) before its end can, with #SS for one.
x86::LinearAddress image_address(Cpu& cpu, const Insn& insn, Access access) {
  constexpr std::uint64_t kFirstLook = 4;  // as AMD's processors do
  const x86::LinearAddress start = linear_address(cpu, insn, kFirstLook, access);
  return start % 16 != 0 ? start : linear_address(cpu, insn, x86::kFxsaveSize, access);
}

template <bool kWide>
void fxsave(Cpu& cpu, const Insn& insn) {
  require_not_emulated(cpu);
  x86::fxsave(cpu, image_address(cpu, insn, Access::Write), kWide);
}

template <bool kWide>
void fxrstor(Cpu& cpu, const Insn& insn) {
  require_not_emulated(cpu);
  x86::fxrstor(cpu, image_address(cpu, insn, Access::Read), kWide);
  release_ferr(cpu);
}

void require_xsave(const Cpu& cpu) {
  require_osxsave(cpu);
  if ((cpu.state.cr0 & x86::cr0::kTs) != 0) x86::raise(x86::vector::kNm);
}

template <XsaveKind kKind, bool kWide>
void xsave(Cpu& cpu, const Insn& insn) {
  if (kKind == XsaveKind::Xsaveopt) require_feature(cpu, Feature::Xsaveopt);
  if (kKind == XsaveKind::Xsavec) require_feature(cpu, Feature::Xsavec);
  require_xsave(cpu);
  const std::uint64_t requested = requested_components(cpu);
  const std::uint32_t size = x86::xsave_area_size(requested & cpu.state.xcr0, kKind == XsaveKind::Xsavec);
  x86::xsave(cpu, linear_address(cpu, insn, size, Access::Write), requested, kKind, kWide);
}

template <bool kWide>
void xrstor(Cpu& cpu, const Insn& insn) {
  require_xsave(cpu);
  const std::uint64_t requested = requested_components(cpu);
  const std::uint32_t size = x86::xsave_area_size(requested & cpu.state.xcr0, false);
  x86::xrstor(cpu, linear_address(cpu, insn, size, Access::Read), requested, kWide);
  release_ferr(cpu);
}

void ldmxcsr(Cpu& cpu, const Insn& insn) {
  require_sse(cpu);
  x86::load_mxcsr(cpu, static_cast<std::uint32_t>(read_memory(cpu, linear_address(cpu, insn, 4, Access::Read), 4)));
}
void stmxcsr(Cpu& cpu, const Insn& insn) {
  require_sse(cpu);
  write_memory(cpu, linear_address(cpu, insn, 4, Access::Write), 4, cpu.state.fpu.mxcsr);
}
void vldmxcsr(Cpu& cpu, const Insn& insn) {
  require_avx(cpu);
  x86::load_mxcsr(cpu, static_cast<std::uint32_t>(read_memory(cpu, linear_address(cpu, insn, 4, Access::Read), 4)));
}
void vstmxcsr(Cpu& cpu, const Insn& insn) {
  require_avx(cpu);
  write_memory(cpu, linear_address(cpu, insn, 4, Access::Write), 4, cpu.state.fpu.mxcsr);
}

/// The x87 images have two sizes only; a 64-bit operand size changes nothing.
unsigned image_operand_size(const Insn& insn) {
  return insn.operand_size == 2 ? 2 : 4;
}

void fninit(Cpu& cpu, const Insn&) {
  require_x87(cpu);
  x86::fninit(cpu.state);
  release_ferr(cpu);
}

void fnstenv(Cpu& cpu, const Insn& insn) {
  require_x87(cpu);
  const unsigned size = image_operand_size(insn);
  x86::fnstenv(cpu, linear_address(cpu, insn, x86::fpu_environment_size(size), Access::Write), size);
  release_ferr(cpu);
}
void fldenv(Cpu& cpu, const Insn& insn) {
  require_x87(cpu);
  report_x87_error(cpu);
  const unsigned size = image_operand_size(insn);
  x86::fldenv(cpu, linear_address(cpu, insn, x86::fpu_environment_size(size), Access::Read), size);
  release_ferr(cpu);
}
void fnsave(Cpu& cpu, const Insn& insn) {
  require_x87(cpu);
  const unsigned size = image_operand_size(insn);
  x86::fnsave(cpu, linear_address(cpu, insn, x86::fpu_image_size(size), Access::Write), size);
  release_ferr(cpu);
}
void frstor(Cpu& cpu, const Insn& insn) {
  require_x87(cpu);
  report_x87_error(cpu);
  const unsigned size = image_operand_size(insn);
  x86::frstor(cpu, linear_address(cpu, insn, x86::fpu_image_size(size), Access::Read), size);
  release_ferr(cpu);
}

constexpr SystemEntry kOps[] = {
    {ZYDIS_MNEMONIC_FXSAVE, fxsave<false>},
    {ZYDIS_MNEMONIC_FXSAVE64, fxsave<true>},
    {ZYDIS_MNEMONIC_FXRSTOR, fxrstor<false>},
    {ZYDIS_MNEMONIC_FXRSTOR64, fxrstor<true>},
    {ZYDIS_MNEMONIC_XSAVE, xsave<XsaveKind::Xsave, false>},
    {ZYDIS_MNEMONIC_XSAVE64, xsave<XsaveKind::Xsave, true>},
    {ZYDIS_MNEMONIC_XSAVEOPT, xsave<XsaveKind::Xsaveopt, false>},
    {ZYDIS_MNEMONIC_XSAVEOPT64, xsave<XsaveKind::Xsaveopt, true>},
    {ZYDIS_MNEMONIC_XSAVEC, xsave<XsaveKind::Xsavec, false>},
    {ZYDIS_MNEMONIC_XSAVEC64, xsave<XsaveKind::Xsavec, true>},
    {ZYDIS_MNEMONIC_XRSTOR, xrstor<false>},
    {ZYDIS_MNEMONIC_XRSTOR64, xrstor<true>},
    {ZYDIS_MNEMONIC_LDMXCSR, ldmxcsr},
    {ZYDIS_MNEMONIC_STMXCSR, stmxcsr},
    {ZYDIS_MNEMONIC_VLDMXCSR, vldmxcsr},
    {ZYDIS_MNEMONIC_VSTMXCSR, vstmxcsr},
    {ZYDIS_MNEMONIC_FNINIT, fninit},
    {ZYDIS_MNEMONIC_FNSTENV, fnstenv},
    {ZYDIS_MNEMONIC_FLDENV, fldenv},
    {ZYDIS_MNEMONIC_FNSAVE, fnsave},
    {ZYDIS_MNEMONIC_FRSTOR, frstor},
};

}  // namespace

std::span<const SystemEntry> extended_state_ops() {
  return kOps;
}

}  // namespace doppel::isa
