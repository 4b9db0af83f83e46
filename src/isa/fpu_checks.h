#pragma once

#include "x86/cpu.h"

/// What x87, MMX, SSE and AVX instructions check before they touch their operands, in the manual's order (SDM vol. 3,
/// tables 2-2 and 13-1; vol. 2, 2.4). They throw with nothing changed.
namespace doppel::isa {

/// x87 instructions: #NM by CR0.EM and CR0.TS.
inline void require_x87(const x86::Cpu& cpu) {
  if ((cpu.state.cr0 & (x86::cr0::kEm | x86::cr0::kTs)) != 0) x86::raise(x86::vector::kNm);
}

inline constexpr std::uint16_t kX87ErrorSummary = 1 << 7;

/// The waiting x87 instructions and MMX: an unmasked error of an earlier one is reported now, as #MF under CR0.NE, else
/// by FERR#: the instruction waits for IRQ 13 (SDM vol. 1, 8.7.2, and vol. 3, D.2). When it starts again it goes on, as
/// with IGNNE# asserted, although the interrupt may be masked: a processor would freeze.
inline void report_x87_error(x86::Cpu& cpu) {
  if ((cpu.state.fpu.fsw & kX87ErrorSummary) == 0) return;
  if ((cpu.state.cr0 & x86::cr0::kNe) != 0) x86::raise(x86::vector::kMf);
  if (cpu.state.ferr) return;
  cpu.state.ferr = true;
  cpu.ports.io.set_ferr(true);
  throw x86::Restart{};
}

/// After every instruction that may have cleared or masked the errors: FERR# is low then, and the next one interrupts
/// again.
inline void release_ferr(x86::Cpu& cpu) {
  if (!cpu.state.ferr || (cpu.state.fpu.fsw & kX87ErrorSummary) != 0) return;
  cpu.state.ferr = false;
  cpu.ports.io.set_ferr(false);
}

/// WAIT itself: #NM only when CR0.MP and CR0.TS are both set.
inline void require_wait(const x86::Cpu& cpu) {
  constexpr std::uint64_t kBoth = x86::cr0::kMp | x86::cr0::kTs;
  if ((cpu.state.cr0 & kBoth) == kBoth) x86::raise(x86::vector::kNm);
}

/// FXSAVE and FXRSTOR, and the first half of MMX and SSE: #UD by CR0.EM, #NM by CR0.TS.
inline void require_not_emulated(const x86::Cpu& cpu) {
  if ((cpu.state.cr0 & x86::cr0::kEm) != 0) x86::raise_ud();
  if ((cpu.state.cr0 & x86::cr0::kTs) != 0) x86::raise(x86::vector::kNm);
}

inline void require_sse(const x86::Cpu& cpu) {
  if ((cpu.state.cr4 & x86::cr4::kOsfxsr) == 0) x86::raise_ud();
  require_not_emulated(cpu);
}

/// The VEX-encoded instructions on XMM and YMM registers.
inline void require_avx(const x86::Cpu& cpu) {
  constexpr std::uint64_t kState = x86::xcr0::kSse | x86::xcr0::kAvx;
  if (!cpu.state.protected_mode() || cpu.state.virtual_8086()) x86::raise_ud();
  if ((cpu.state.cr4 & x86::cr4::kOsxsave) == 0 || (cpu.state.xcr0 & kState) != kState) x86::raise_ud();
  if ((cpu.state.cr0 & x86::cr0::kTs) != 0) x86::raise(x86::vector::kNm);
}

/// XSAVE and its kin, XGETBV and XSETBV.
inline void require_osxsave(const x86::Cpu& cpu) {
  if ((cpu.state.cr4 & x86::cr4::kOsxsave) == 0) x86::raise_ud();
}

}  // namespace doppel::isa
