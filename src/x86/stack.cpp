#include "x86/stack.h"

#include "x86/segmentation.h"

namespace doppel::x86 {

namespace {

std::uint64_t stack_offset(const CpuState& state, std::uint64_t delta) {
  return (state.gpr[kRsp] + delta) & low_mask(stack_address_size(state) * 8);
}

}  // namespace

unsigned stack_address_size(const CpuState& state) {
  if (state.code_64()) return 8;
  return state.seg(SegReg::Ss).default_32() ? 4 : 2;
}

void add_to_stack_pointer(CpuState& state, std::int64_t delta) {
  const std::uint64_t offset = stack_offset(state, static_cast<std::uint64_t>(delta));
  // A 16-bit stack leaves the rest of ESP alone; a 32-bit one clears the upper half of RSP.
  const std::uint64_t kept = stack_address_size(state) == 2 ? state.gpr[kRsp] & ~low_mask(16) : 0;
  state.gpr[kRsp] = kept | offset;
}

void push(Cpu& cpu, std::uint64_t value, unsigned size) {
  const std::uint64_t offset = stack_offset(cpu.state, 0 - std::uint64_t{size});
  const LinearAddress address = segment_address(cpu, SegReg::Ss, offset, size, Access::Write);
  const View view = cpu.mmu.data_view();
  switch (size) {
    case 2:
      cpu.mmu.write(address, static_cast<std::uint16_t>(value), view);
      break;
    case 4:
      cpu.mmu.write(address, static_cast<std::uint32_t>(value), view);
      break;
    default:
      cpu.mmu.write(address, value, view);
      break;
  }
  add_to_stack_pointer(cpu.state, -static_cast<std::int64_t>(size));
}

void probe_push(Cpu& cpu, unsigned size) {
  const std::uint64_t offset = stack_offset(cpu.state, 0 - std::uint64_t{size});
  const LinearAddress address = segment_address(cpu, SegReg::Ss, offset, size, Access::Write);
  cpu.mmu.host(address, size, Access::Write, cpu.mmu.data_view());  // checks the alignment, too
  cpu.mmu.probe(address, size, Access::Write, cpu.mmu.data_view());
}

std::uint64_t peek(Cpu& cpu, std::uint64_t depth, unsigned size) {
  const LinearAddress address = segment_address(cpu, SegReg::Ss, stack_offset(cpu.state, depth), size, Access::Read);
  const View view = cpu.mmu.data_view();
  switch (size) {
    case 2:
      return cpu.mmu.read<std::uint16_t>(address, view);
    case 4:
      return cpu.mmu.read<std::uint32_t>(address, view);
    default:
      return cpu.mmu.read<std::uint64_t>(address, view);
  }
}

std::uint64_t pop(Cpu& cpu, unsigned size) {
  const std::uint64_t value = peek(cpu, 0, size);
  add_to_stack_pointer(cpu.state, size);
  return value;
}

}  // namespace doppel::x86
