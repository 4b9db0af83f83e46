#pragma once

#include <Zydis/Zydis.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "isa/insn.h"
#include "x86/cpuid_model.h"

namespace doppel::isa {

/// No instruction is longer; a longer one raises #GP (SDM vol. 2, 2.3.11).
inline constexpr std::size_t kMaxInsnLength = 15;

enum class DecodeStatus : std::uint8_t {
  Ok,
  NeedsMoreBytes,  ///< valid so far, but the bytes end before the instruction does
  Undefined,       ///< #UD: no such instruction in this mode, or not on the guest's processor
  TooLong,         ///< #GP: the bytes go on past kMaxInsnLength
};

/// Turns bytes into instructions, as the processor of a CpuidModel does: what it lacks is undefined, or is what it was
/// before the feature came (TZCNT is BSF). Immutable; any thread.
class Decoder {
 public:
  explicit Decoder(const x86::CpuidModel& cpuid);

  /// Decodes the first instruction of `bytes`. `protected_mode` is CR0.PE set and EFLAGS.VM clear: VEX and some system
  /// instructions exist only there.
  /// `encoding`, if wanted, is how it was written.
  DecodeStatus decode(std::span<const std::byte> bytes, CodeSize code_size, bool protected_mode, Insn& insn,
                      Encoding* encoding = nullptr) const;

 private:
  DecodeStatus decode_exchange(std::span<const std::byte> pause, Insn& insn, Encoding* encoding) const;

  bool amd_;
  /// By CodeSize, and one more for real and virtual-8086 mode.
  std::array<ZydisDecoder, 4> decoders_{};
  std::array<bool, ZYDIS_ISA_SET_MAX_VALUE + 1> has_set_{};
};

}  // namespace doppel::isa
