#include "isa/system/checks.h"
#include "isa/system/operands.h"
#include "isa/system/ops.h"
#include "x86/control_registers.h"

/// The parts of CR0 that have instructions of their own; SDM vol. 3, 2.8.
namespace doppel::isa {
namespace {

using x86::Cpu;

void clts(Cpu& cpu, const Insn&) {
  require_cpl0(cpu);
  cpu.state.cr0 &= ~x86::cr0::kTs;
}

void lmsw(Cpu& cpu, const Insn& insn) {
  require_cpl0(cpu);
  const std::uint64_t status = read_word_operand(cpu, insn, insn.op[0]) & 0xF;
  // PE can be set but not cleared.
  x86::write_cr0(cpu, (cpu.state.cr0 & ~(x86::cr0::kMp | x86::cr0::kEm | x86::cr0::kTs)) | status);
}

void smsw(Cpu& cpu, const Insn& insn) {
  require_not_umip(cpu);
  write_word_operand(cpu, insn, insn.op[0], cpu.state.cr0);
}

constexpr SystemEntry kOps[] = {
    {ZYDIS_MNEMONIC_CLTS, clts},
    {ZYDIS_MNEMONIC_LMSW, lmsw},
    {ZYDIS_MNEMONIC_SMSW, smsw},
};

}  // namespace

std::span<const SystemEntry> control_ops() {
  return kOps;
}

}  // namespace doppel::isa
