#include "x86/io_permission.h"

#include "x86/descriptor.h"

namespace doppel::x86 {

void check_io_permission(Cpu& cpu, std::uint16_t port, unsigned size) {
  constexpr std::uint32_t kMapBase = 0x66;
  const CpuState& state = cpu.state;
  if (!state.protected_mode()) return;
  if (!state.virtual_8086() && state.cpl() <= bits(state.rflags_without_of, 13, 12)) return;

  // A 16-bit TSS has no map. The byte after the last one is read too, for accesses that straddle two.
  const Segment& tss = state.tr;
  if ((tss.type() & 8) == 0 || tss.limit < kMapBase + 1) raise_gp(0);
  const View view = implicit_view(state);
  const std::uint32_t offset = cpu.mmu.read<std::uint16_t>(tss.base + kMapBase, view) + port / 8U;
  if (offset + 1 > tss.limit) raise_gp(0);
  const std::uint32_t denied = cpu.mmu.read<std::uint16_t>(tss.base + offset, view);
  if (((denied >> (port % 8)) & low_mask(size)) != 0) raise_gp(0);
}

}  // namespace doppel::x86
