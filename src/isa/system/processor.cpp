#include <emmintrin.h>

#include "isa/system/checks.h"
#include "isa/system/operands.h"
#include "isa/system/ops.h"
#include "x86/control_registers.h"
#include "x86/descriptor.h"

/// What speaks to the processor rather than to memory: halting, ordering, caches and translations.
namespace doppel::isa {
namespace {

using x86::Access;
using x86::Cpu;
using Feature = x86::CpuidModel::Feature;

void hlt(Cpu& cpu, const Insn&) {
  require_cpl0(cpu);
  cpu.state.activity = x86::Activity::Halted;
}

void nothing(Cpu&, const Insn&) {}

void mfence(Cpu&, const Insn&) {
  _mm_mfence();
}
void lfence(Cpu&, const Insn&) {
  _mm_lfence();
}
void sfence(Cpu&, const Insn&) {
  _mm_sfence();
}

/// WBINVD and INVD: the host's caches are coherent, so there is nothing to write back.
void write_back_caches(Cpu& cpu, const Insn&) {
  require_cpl0(cpu);
}

/// Cache lines are only looked up as a load of the byte would.
void flush_line(Cpu& cpu, const Insn& insn) {
  cpu.mmu.probe(linear_address(cpu, insn, 1, Access::Read), 1, Access::Read, cpu.mmu.data_view());
}
void clflushopt(Cpu& cpu, const Insn& insn) {
  require_feature(cpu, Feature::Clflushopt);
  flush_line(cpu, insn);
}
void clwb(Cpu& cpu, const Insn& insn) {
  require_feature(cpu, Feature::Clwb);
  flush_line(cpu, insn);
}

void invlpg(Cpu& cpu, const Insn& insn) {
  require_cpl0(cpu);
  // No limit is checked, and a non-canonical address has no translation to drop.
  const bool flat = cpu.state.code_64() && insn.mem.segment != x86::SegReg::Fs && insn.mem.segment != x86::SegReg::Gs;
  const std::uint64_t base = flat ? 0 : cpu.state.seg(insn.mem.segment).base;
  const std::uint64_t address = base + effective_address(cpu, insn);
  if (cpu.state.code_64() && !x86::is_canonical(address)) return;
  cpu.mmu.flush_page(cpu.state.code_64() ? address : address & low_mask(32));
}

void invpcid(Cpu& cpu, const Insn& insn) {
  require_feature(cpu, Feature::Invpcid);
  require_cpl0(cpu);
  const std::uint64_t type = read_gpr(cpu.state, insn.op[0].reg, cpu.state.code_64() ? 8 : 4);
  const x86::LinearAddress descriptor = linear_address(cpu, insn, 16, Access::Read);
  const std::uint64_t pcid = read_memory(cpu, descriptor, 8);
  x86::invalidate_pcid(cpu, type, pcid, read_memory(cpu, descriptor + 8, 8));
}

constexpr SystemEntry kOps[] = {
    {ZYDIS_MNEMONIC_HLT, hlt},
    {ZYDIS_MNEMONIC_PAUSE, nothing},
    {ZYDIS_MNEMONIC_MFENCE, mfence},
    {ZYDIS_MNEMONIC_LFENCE, lfence},
    {ZYDIS_MNEMONIC_SFENCE, sfence},
    {ZYDIS_MNEMONIC_WBINVD, write_back_caches},
    {ZYDIS_MNEMONIC_INVD, write_back_caches},
    {ZYDIS_MNEMONIC_CLFLUSH, flush_line},
    {ZYDIS_MNEMONIC_CLFLUSHOPT, clflushopt},
    {ZYDIS_MNEMONIC_CLWB, clwb},
    {ZYDIS_MNEMONIC_CLDEMOTE, nothing},
    {ZYDIS_MNEMONIC_PREFETCH, nothing},
    {ZYDIS_MNEMONIC_PREFETCHW, nothing},
    {ZYDIS_MNEMONIC_PREFETCHWT1, nothing},
    {ZYDIS_MNEMONIC_PREFETCHNTA, nothing},
    {ZYDIS_MNEMONIC_PREFETCHT0, nothing},
    {ZYDIS_MNEMONIC_PREFETCHT1, nothing},
    {ZYDIS_MNEMONIC_PREFETCHT2, nothing},
    {ZYDIS_MNEMONIC_INVLPG, invlpg},
    {ZYDIS_MNEMONIC_INVPCID, invpcid},
};

}  // namespace

std::span<const SystemEntry> processor_ops() {
  return kOps;
}

}  // namespace doppel::isa
