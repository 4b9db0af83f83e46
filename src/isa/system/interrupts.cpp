#include "isa/system/operands.h"
#include "isa/system/ops.h"
#include "x86/events.h"

/// Instructions that raise interrupts and exceptions of their own; SDM vol. 3, 6.4.4.
namespace doppel::isa {
namespace {

using x86::Cpu;
using x86::SoftwareInterrupt;

void int_n(Cpu& cpu, const Insn& insn) {
  x86::deliver_software_interrupt(cpu, static_cast<std::uint8_t>(insn.imm[0]), SoftwareInterrupt::IntN);
}
void int3(Cpu& cpu, const Insn&) {
  x86::deliver_software_interrupt(cpu, x86::vector::kBp, SoftwareInterrupt::Int3);
}
void int1(Cpu& cpu, const Insn&) {
  x86::deliver_software_interrupt(cpu, x86::vector::kDb, SoftwareInterrupt::Int1);
}
void into(Cpu& cpu, const Insn&) {
  if (cpu.state.of != 0) x86::deliver_software_interrupt(cpu, x86::vector::kOf, SoftwareInterrupt::Into);
}

void bound(Cpu& cpu, const Insn& insn) {
  const unsigned size = insn.operand_size;
  const std::int64_t lower = sign_extend(read_part(cpu, insn, 0, size), size * 8);
  const std::int64_t upper = sign_extend(read_part(cpu, insn, size, size), size * 8);
  const std::int64_t index = sign_extend(cpu.state.gpr[insn.op[0].reg], size * 8);
  if (index < lower || index > upper) x86::raise(x86::vector::kBr);
}

void undefined(Cpu&, const Insn&) {
  x86::raise_ud();
}

constexpr SystemEntry kOps[] = {
    {ZYDIS_MNEMONIC_INT, int_n},          {ZYDIS_MNEMONIC_INT3, int3},         {ZYDIS_MNEMONIC_INT1, int1},
    {ZYDIS_MNEMONIC_INTO, into},          {ZYDIS_MNEMONIC_BOUND, bound},       {ZYDIS_MNEMONIC_UD0, undefined},
    {ZYDIS_MNEMONIC_UD1, undefined},      {ZYDIS_MNEMONIC_UD2, undefined},     {ZYDIS_MNEMONIC_RSM, undefined},
    {ZYDIS_MNEMONIC_GETSEC, undefined},   {ZYDIS_MNEMONIC_MONITOR, undefined}, {ZYDIS_MNEMONIC_MWAIT, undefined},
    {ZYDIS_MNEMONIC_MONITORX, undefined}, {ZYDIS_MNEMONIC_MWAITX, undefined},
};

}  // namespace

std::span<const SystemEntry> interrupt_ops() {
  return kOps;
}

}  // namespace doppel::isa
