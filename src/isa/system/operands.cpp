#include "isa/system/operands.h"

#include "x86/segmentation.h"

namespace doppel::isa {

std::uint64_t read_gpr(const x86::CpuState& state, unsigned reg, unsigned size) {
  return state.gpr[reg] & low_mask(size * 8);
}

void write_gpr(x86::CpuState& state, unsigned reg, unsigned size, std::uint64_t value) {
  const std::uint64_t mask = low_mask(size * 8);
  const std::uint64_t kept = size >= 4 ? 0 : state.gpr[reg] & ~mask;
  state.gpr[reg] = kept | (value & mask);
}

std::uint64_t read_memory(x86::Cpu& cpu, x86::LinearAddress address, unsigned size) {
  const x86::View view = cpu.mmu.data_view();
  switch (size) {
    case 1:
      return cpu.mmu.read<std::uint8_t>(address, view);
    case 2:
      return cpu.mmu.read<std::uint16_t>(address, view);
    case 4:
      return cpu.mmu.read<std::uint32_t>(address, view);
    default:
      return cpu.mmu.read<std::uint64_t>(address, view);
  }
}

void write_memory(x86::Cpu& cpu, x86::LinearAddress address, unsigned size, std::uint64_t value) {
  const x86::View view = cpu.mmu.data_view();
  switch (size) {
    case 1:
      return cpu.mmu.write(address, static_cast<std::uint8_t>(value), view);
    case 2:
      return cpu.mmu.write(address, static_cast<std::uint16_t>(value), view);
    case 4:
      return cpu.mmu.write(address, static_cast<std::uint32_t>(value), view);
    default:
      return cpu.mmu.write(address, value, view);
  }
}

std::uint64_t read_part(x86::Cpu& cpu, const Insn& insn, unsigned distance, unsigned size) {
  const std::uint64_t offset = (effective_address(cpu, insn) + distance) & low_mask(insn.mem.address_size * 8U);
  return read_memory(cpu, x86::segment_address(cpu, insn.mem.segment, offset, size, x86::Access::Read), size);
}

std::uint64_t read_operand(x86::Cpu& cpu, const Insn& insn, const Operand& operand) {
  switch (operand.kind) {
    case OperandKind::Gpr:
      return read_gpr(cpu.state, operand.reg, operand.size);
    case OperandKind::GprHigh:
      return bits(cpu.state.gpr[operand.reg], 15, 8);
    case OperandKind::Memory:
      return read_memory(cpu, linear_address(cpu, insn, operand.size, x86::Access::Read), operand.size);
    case OperandKind::Immediate:
      return insn.imm[operand.reg];
    default:
      x86::raise_ud();
  }
}

void write_operand(x86::Cpu& cpu, const Insn& insn, const Operand& operand, std::uint64_t value) {
  switch (operand.kind) {
    case OperandKind::Gpr:
      return write_gpr(cpu.state, operand.reg, operand.size, value);
    case OperandKind::GprHigh: {
      std::uint64_t& reg = cpu.state.gpr[operand.reg];
      reg = (reg & ~std::uint64_t{0xFF00}) | ((value & 0xFF) << 8);
      return;
    }
    case OperandKind::Memory:
      return write_memory(cpu, linear_address(cpu, insn, operand.size, x86::Access::Write), operand.size, value);
    default:
      x86::raise_ud();
  }
}

std::uint16_t read_word_operand(x86::Cpu& cpu, const Insn& insn, const Operand& operand) {
  if (operand.kind == OperandKind::Memory)
    return static_cast<std::uint16_t>(read_memory(cpu, linear_address(cpu, insn, 2, x86::Access::Read), 2));
  return static_cast<std::uint16_t>(cpu.state.gpr[operand.reg]);
}

void write_word_operand(x86::Cpu& cpu, const Insn& insn, const Operand& operand, std::uint64_t value) {
  if (operand.kind == OperandKind::Memory)
    write_memory(cpu, linear_address(cpu, insn, 2, x86::Access::Write), 2, value);
  else
    write_gpr(cpu.state, operand.reg, insn.operand_size, value);
}

unsigned far_offset_size(const x86::Cpu& cpu, const Insn& insn) {
  const bool amd = cpu.ports.cpuid.vendor() == x86::CpuidModel::Vendor::Amd;
  return amd && insn.operand_size == 8 ? 4 : insn.operand_size;
}

void add_to_address_register(x86::CpuState& state, unsigned reg, unsigned address_size, std::int64_t delta) {
  write_gpr(state, reg, address_size, state.gpr[reg] + static_cast<std::uint64_t>(delta));
}

}  // namespace doppel::isa
