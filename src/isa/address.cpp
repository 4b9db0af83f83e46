#include "isa/system.h"
#include "x86/segmentation.h"

namespace doppel::isa {

std::uint64_t effective_address(const x86::Cpu& cpu, const Insn& insn) {
  const MemoryOperand& mem = insn.mem;
  std::uint64_t address = static_cast<std::uint64_t>(mem.displacement);
  if (mem.base == kRipRegister)
    address += cpu.state.rip;
  else if (mem.base != kNoRegister)
    address += cpu.state.gpr[mem.base];
  if (mem.index != kNoRegister && !mem.gather) address += cpu.state.gpr[mem.index] * mem.scale;
  return address & low_mask(mem.address_size * 8U);
}

x86::LinearAddress linear_address(x86::Cpu& cpu, const Insn& insn, std::uint64_t size, x86::Access access) {
  return x86::segment_address(cpu, insn.mem.segment, effective_address(cpu, insn), size, access);
}

}  // namespace doppel::isa
