#include "isa/system/checks.h"
#include "isa/system/operands.h"
#include "isa/system/ops.h"
#include "x86/descriptor.h"
#include "x86/segmentation.h"

/// Loads and stores of GDTR, IDTR, LDTR and TR; SDM vol. 3, 2.4 and the instructions' pages in vol. 2.
namespace doppel::isa {
namespace {

using x86::Access;
using x86::Cpu;
using x86::TableRegister;

/// A pseudo-descriptor is a 16-bit limit and a base of four bytes, or eight in 64-bit mode.
unsigned base_size(const Cpu& cpu) {
  return cpu.state.code_64() ? 8 : 4;
}

void load_table_register(Cpu& cpu, const Insn& insn, TableRegister& table) {
  require_cpl0(cpu);
  const unsigned size = base_size(cpu);
  const x86::LinearAddress address = linear_address(cpu, insn, 2 + size, Access::Read);
  const auto limit = static_cast<std::uint16_t>(read_memory(cpu, address, 2));
  std::uint64_t base = read_memory(cpu, address + 2, size);
  if (size == 8 && !x86::is_canonical(base)) x86::raise_gp();
  if (size == 4 && insn.operand_size == 2) base &= 0xFF'FFFF;
  table = {base, limit};
}

void store_table_register(Cpu& cpu, const Insn& insn, const TableRegister& table) {
  require_not_umip(cpu);
  const unsigned size = base_size(cpu);
  const x86::LinearAddress address = linear_address(cpu, insn, 2 + size, Access::Write);
  cpu.mmu.probe(address, 2 + size, Access::Write, cpu.mmu.data_view());
  write_memory(cpu, address, 2, table.limit);
  write_memory(cpu, address + 2, size, table.base);
}

void lgdt(Cpu& cpu, const Insn& insn) {
  load_table_register(cpu, insn, cpu.state.gdtr);
}
void lidt(Cpu& cpu, const Insn& insn) {
  load_table_register(cpu, insn, cpu.state.idtr);
}
void sgdt(Cpu& cpu, const Insn& insn) {
  store_table_register(cpu, insn, cpu.state.gdtr);
}
void sidt(Cpu& cpu, const Insn& insn) {
  store_table_register(cpu, insn, cpu.state.idtr);
}

void lldt(Cpu& cpu, const Insn& insn) {
  require_protected_mode(cpu);
  require_cpl0(cpu);
  x86::load_ldtr(cpu, read_word_operand(cpu, insn, insn.op[0]));
}

void ltr(Cpu& cpu, const Insn& insn) {
  require_protected_mode(cpu);
  require_cpl0(cpu);
  x86::load_task_register(cpu, read_word_operand(cpu, insn, insn.op[0]));
}

void sldt(Cpu& cpu, const Insn& insn) {
  require_protected_mode(cpu);
  require_not_umip(cpu);
  write_word_operand(cpu, insn, insn.op[0], cpu.state.ldtr.selector);
}

void str(Cpu& cpu, const Insn& insn) {
  require_protected_mode(cpu);
  require_not_umip(cpu);
  write_word_operand(cpu, insn, insn.op[0], cpu.state.tr.selector);
}

constexpr SystemEntry kOps[] = {
    {ZYDIS_MNEMONIC_LGDT, lgdt}, {ZYDIS_MNEMONIC_LIDT, lidt}, {ZYDIS_MNEMONIC_SGDT, sgdt}, {ZYDIS_MNEMONIC_SIDT, sidt},
    {ZYDIS_MNEMONIC_LLDT, lldt}, {ZYDIS_MNEMONIC_LTR, ltr},   {ZYDIS_MNEMONIC_SLDT, sldt}, {ZYDIS_MNEMONIC_STR, str},
};

}  // namespace

std::span<const SystemEntry> descriptor_table_ops() {
  return kOps;
}

}  // namespace doppel::isa
