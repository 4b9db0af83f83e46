#pragma once

#include <Zydis/Zydis.h>

#include <cstdint>
#include <optional>

#include "fuzz_isa/case.h"
#include "fuzz_isa/random.h"
#include "isa/decoder.h"

namespace doppel::fuzz_isa {

/// Makes cases out of random bytes that are instructions of the guest's processor, with registers that let their memory
/// operands meet the data pages. The case of a seed and a number is always the same.
class Generator {
 public:
  explicit Generator(const x86::CpuidModel& cpuid);

  Case make(std::uint64_t seed, std::uint64_t number, std::size_t slot) const;

 private:
  struct Draft;
  std::optional<Instruction> instruction(Draft& draft) const;
  bool usable(const ZydisDecodedInstruction& decoded, const ZydisDecodedOperand* operands, bool bits64) const;

  isa::Decoder decoder_;
  ZydisDecoder zydis64_{}, zydis32_{};
};

}  // namespace doppel::fuzz_isa
