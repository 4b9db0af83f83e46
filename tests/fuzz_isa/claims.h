#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "fuzz_isa/form.h"
#include "isa/decoder.h"

namespace doppel::fuzz_isa {

/// One way to begin an instruction: everything before SIB, displacement and immediate.
struct Opening {
  std::array<std::uint8_t, 3> prefix{};  ///< legacy ones
  std::uint8_t prefixes = 0;
  bool vex = false, rex_w = false;
  std::array<std::uint8_t, 4> opcode{};  ///< with the escapes; of VEX: its second and third byte, the opcode
  std::uint8_t opcodes = 0;
  std::uint8_t modrm = 0;
  bool has_modrm = false;
};

/// All that the op table claims: what decodes and has somebody who executes it, found by decoding every opcode of every
/// map with every prefix that can matter.
class Claims {
 public:
  explicit Claims(const isa::Decoder& decoder);

  struct Claim {
    Form form;
    std::vector<Opening> openings;  ///< a few of those that lead to it
  };
  const std::vector<Claim>& of(Mode mode) const { return claims_[static_cast<std::size_t>(mode)]; }

 private:
  void enumerate_legacy(const isa::Decoder& decoder, Mode mode);
  void enumerate_vex(const isa::Decoder& decoder, Mode mode);
  /// False where nothing begins so, whatever ModRM is.
  bool try_modrm(const isa::Decoder& decoder, Mode mode, Opening opening, bool all_registers);
  /// Adds what an opening leads to; whether ModRM was looked at.
  enum class Tried : std::uint8_t { Nothing, Found, FoundWithModrm };
  Tried add(const isa::Decoder& decoder, Mode mode, const Opening& opening);

  std::array<std::map<Form, std::size_t>, kModes> index_;
  std::array<std::vector<Claim>, kModes> claims_;
};

}  // namespace doppel::fuzz_isa
