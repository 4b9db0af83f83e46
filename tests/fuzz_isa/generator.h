#pragma once

#include <Zydis/Zydis.h>

#include <array>
#include <cstdint>

#include "fuzz_isa/case.h"
#include "fuzz_isa/claims.h"
#include "fuzz_isa/random.h"
#include "isa/decoder.h"

namespace doppel::fuzz_isa {

/// Makes cases out of what the op table claims, every form as often as any other, and of random bytes that are
/// instructions of the guest's processor; with registers that let their memory operands meet the data pages. The case
/// of a seed and a number is always the same.
class Generator {
 public:
  explicit Generator(const x86::CpuidModel& cpuid);

  void make(std::uint64_t seed, std::uint64_t number, std::size_t slot, Case& made) const;
  const Claims& claims() const { return claims_; }
  /// Why the host is no judge of an instruction; null if it is.
  static const char* no_judge(ZydisMnemonic mnemonic);

 private:
  struct Draft;
  struct Decoded {
    ZydisDecodedInstruction instruction;
    std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands;
    isa::Insn insn;
    isa::Encoding encoding;
  };
  bool decode(const Draft& draft, Instruction& made, Decoded& decoded) const;
  bool add_instruction(Draft& draft) const;
  bool usable(const Decoded& decoded, Mode mode) const;
  bool acceptable(Draft& draft, const Decoded& decoded) const;
  void place_memory_operand(Draft& draft, const Decoded& decoded, const ZydisDecodedOperand& operand,
                            Instruction& made) const;

  isa::Decoder decoder_;
  Claims claims_;
  std::array<ZydisDecoder, kModes> zydis_{};
  std::array<bool, ZYDIS_MNEMONIC_MAX_VALUE + 1> judged_{};  ///< no_judge(), by mnemonic
};

}  // namespace doppel::fuzz_isa
