#pragma once

#include "x86/cpu.h"

/// Conditions that many system instructions share, in the words of the manual's exception tables.
namespace doppel::isa {

/// #GP(0) unless CPL is 0. Real mode passes, virtual-8086 mode does not.
inline void require_cpl0(const x86::Cpu& cpu) {
  if (cpu.state.cpl() != 0) x86::raise_gp();
}

/// #UD in real and virtual-8086 mode.
inline void require_protected_mode(const x86::Cpu& cpu) {
  if (!cpu.state.protected_mode() || cpu.state.virtual_8086()) x86::raise_ud();
}

/// #UD outside 64-bit mode.
inline void require_64_bit_mode(const x86::Cpu& cpu) {
  if (!cpu.state.code_64()) x86::raise_ud();
}

/// #UD where CPUID does not report the instruction.
inline void require_feature(const x86::Cpu& cpu, x86::CpuidModel::Feature feature) {
  if (!cpu.ports.cpuid.has(feature)) x86::raise_ud();
}

/// #GP(0) when CR4.UMIP keeps descriptor tables and the like from user programs.
inline void require_not_umip(const x86::Cpu& cpu) {
  if ((cpu.state.cr4 & x86::cr4::kUmip) != 0 && cpu.state.cpl() > 0) x86::raise_gp();
}

inline unsigned iopl(const x86::CpuState& state) {
  return static_cast<unsigned>(bits(state.rflags_without_of, 13, 12));
}

}  // namespace doppel::isa
