#include "isa/system/checks.h"
#include "isa/system/operands.h"
#include "isa/system/ops.h"
#include "x86/descriptor.h"
#include "x86/segmentation.h"

/// Segment registers and descriptors as programs see them: far pointer loads, rights and limits, FS and GS bases.
namespace doppel::isa {
namespace {

using x86::Cpu;
using x86::SegReg;
using Feature = x86::CpuidModel::Feature;
namespace rflags = x86::rflags;

template <SegReg kSegment>
void load_far_pointer(Cpu& cpu, const Insn& insn) {
  const unsigned size = far_offset_size(cpu, insn);
  const std::uint64_t offset = read_part(cpu, insn, 0, size);
  const auto selector = static_cast<std::uint16_t>(read_part(cpu, insn, size, 2));
  x86::load_segment(cpu, kSegment, selector);
  write_gpr(cpu.state, insn.op[0].reg, size, offset);
}

void set_zf(Cpu& cpu, bool value) {
  set_flags(cpu.state, rflags::kZf, value ? rflags::kZf : 0);
}

void lar(Cpu& cpu, const Insn& insn) {
  require_protected_mode(cpu);
  std::uint32_t rights = 0;
  const bool visible = x86::load_access_rights(cpu, read_word_operand(cpu, insn, insn.op[1]), rights);
  set_zf(cpu, visible);
  if (visible) write_gpr(cpu.state, insn.op[0].reg, insn.operand_size, rights);
}

void lsl(Cpu& cpu, const Insn& insn) {
  require_protected_mode(cpu);
  std::uint32_t limit = 0;
  const bool visible = x86::load_segment_limit(cpu, read_word_operand(cpu, insn, insn.op[1]), limit);
  set_zf(cpu, visible);
  if (visible) write_gpr(cpu.state, insn.op[0].reg, insn.operand_size, limit);
}

template <bool kForWriting>
void verify(Cpu& cpu, const Insn& insn) {
  require_protected_mode(cpu);
  set_zf(cpu, x86::verify_segment(cpu, read_word_operand(cpu, insn, insn.op[0]), kForWriting));
}

void arpl(Cpu& cpu, const Insn& insn) {
  require_protected_mode(cpu);
  const Operand& destination = insn.op[0];
  const std::uint64_t selector = read_operand(cpu, insn, destination);
  const std::uint64_t requested = read_gpr(cpu.state, insn.op[1].reg, 2) & 3;
  const bool raised = (selector & 3) < requested;
  if (raised) write_operand(cpu, insn, destination, (selector & ~std::uint64_t{3}) | requested);
  set_zf(cpu, raised);
}

void swapgs(Cpu& cpu, const Insn&) {
  require_64_bit_mode(cpu);
  require_cpl0(cpu);
  std::swap(cpu.state.seg(SegReg::Gs).base, cpu.state.kernel_gs_base);
}

void require_fsgsbase(const Cpu& cpu) {
  require_64_bit_mode(cpu);
  if ((cpu.state.cr4 & x86::cr4::kFsgsbase) == 0) x86::raise_ud();
}

template <SegReg kSegment>
void read_base(Cpu& cpu, const Insn& insn) {
  require_fsgsbase(cpu);
  write_gpr(cpu.state, insn.op[0].reg, insn.op[0].size, cpu.state.seg(kSegment).base);
}

template <SegReg kSegment>
void write_base(Cpu& cpu, const Insn& insn) {
  require_fsgsbase(cpu);
  const std::uint64_t base = read_gpr(cpu.state, insn.op[0].reg, insn.op[0].size);
  if (!x86::is_canonical(base)) x86::raise_gp();
  cpu.state.seg(kSegment).base = base;
}

constexpr SystemEntry kOps[] = {
    {ZYDIS_MNEMONIC_LDS, load_far_pointer<SegReg::Ds>},
    {ZYDIS_MNEMONIC_LES, load_far_pointer<SegReg::Es>},
    {ZYDIS_MNEMONIC_LFS, load_far_pointer<SegReg::Fs>},
    {ZYDIS_MNEMONIC_LGS, load_far_pointer<SegReg::Gs>},
    {ZYDIS_MNEMONIC_LSS, load_far_pointer<SegReg::Ss>},
    {ZYDIS_MNEMONIC_LAR, lar},
    {ZYDIS_MNEMONIC_LSL, lsl},
    {ZYDIS_MNEMONIC_VERR, verify<false>},
    {ZYDIS_MNEMONIC_VERW, verify<true>},
    {ZYDIS_MNEMONIC_ARPL, arpl},
    {ZYDIS_MNEMONIC_SWAPGS, swapgs},
    {ZYDIS_MNEMONIC_RDFSBASE, read_base<SegReg::Fs>},
    {ZYDIS_MNEMONIC_RDGSBASE, read_base<SegReg::Gs>},
    {ZYDIS_MNEMONIC_WRFSBASE, write_base<SegReg::Fs>},
    {ZYDIS_MNEMONIC_WRGSBASE, write_base<SegReg::Gs>},
};

}  // namespace

std::span<const SystemEntry> segment_ops() {
  return kOps;
}

}  // namespace doppel::isa
