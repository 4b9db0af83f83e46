#pragma once

#include <cstdint>

#include "x86/cpu.h"

/// Instructions that move the x87, MMX, SSE and AVX state as a whole; SDM vol. 1, 8.1.10, 10.5 and ch. 13. They work on
/// CpuState and a linear address, and are all-or-nothing: the whole operand is probed before anything changes.
///
/// The caller has decoded and computed the address, and has raised what comes before the access: #UD (CR4.OSFXSR,
/// CR4.OSXSAVE, CPUID), #NM (CR0.TS, CR0.EM), #MF for the waiting forms. Alignment is checked here (#GP(0)).
/// `rex_w` selects the 64-bit FIP and FDP of FXSAVE64, XSAVE64 and their kin. `operand_size` is 2 or 4 bytes.
namespace doppel::x86 {

inline constexpr std::uint64_t kFxsaveSize = 512;
inline constexpr std::uint64_t kXsaveHeaderSize = 64;
inline constexpr std::uint64_t kXsaveAvxOffset = 576, kXsaveAvxSize = 256;
/// The area of every component we support; for the segment limit check of XSAVE and XRSTOR.
inline constexpr std::uint64_t kXsaveSize = kXsaveAvxOffset + kXsaveAvxSize;

void fxsave(Cpu& cpu, LinearAddress address, bool rex_w);
void fxrstor(Cpu& cpu, LinearAddress address, bool rex_w);

enum class XsaveKind : std::uint8_t { Xsave, Xsaveopt, Xsavec };
/// `requested` is EDX:EAX.
void xsave(Cpu& cpu, LinearAddress address, std::uint64_t requested, XsaveKind kind, bool rex_w);
/// Standard and compacted images.
void xrstor(Cpu& cpu, LinearAddress address, std::uint64_t requested, bool rex_w);
/// XGETBV; `index` is ECX: 0 is XCR0, 1 (with XGETBV1) what of it is in use. #GP(0) for others.
std::uint64_t read_xcr(Cpu& cpu, std::uint32_t index);
/// XSAVE area size of `components` (bits of XCR0) in standard or compacted format, as CPUID leaf 0DH reports it.
std::uint32_t xsave_area_size(std::uint64_t components, bool compacted);

/// Bytes of the environment (14 or 28), and of FNSAVE's image (94 or 108).
constexpr std::uint64_t fpu_environment_size(unsigned operand_size) {
  return operand_size == 2 ? 14 : 28;
}
constexpr std::uint64_t fpu_image_size(unsigned operand_size) {
  return fpu_environment_size(operand_size) + 80;
}
void fnstenv(Cpu& cpu, LinearAddress address, unsigned operand_size);
void fldenv(Cpu& cpu, LinearAddress address, unsigned operand_size);
void fnsave(Cpu& cpu, LinearAddress address, unsigned operand_size);
void frstor(Cpu& cpu, LinearAddress address, unsigned operand_size);
/// FNINIT.
void fninit(CpuState& state);

/// LDMXCSR: #GP(0) for reserved bits.
void load_mxcsr(Cpu& cpu, std::uint32_t value);

}  // namespace doppel::x86
