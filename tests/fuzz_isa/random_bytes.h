#pragma once

#include <array>
#include <cstdint>

#include "fuzz_isa/claims.h"
#include "fuzz_isa/random.h"

namespace doppel::fuzz_isa {

/// 15 bytes, often beginning with an instruction: prefixes, an opcode of any map, ModRM, and whatever follows.
std::array<std::uint8_t, 15> random_bytes(Random& random, bool bits64);
/// The same, for one opening: with registers, addressing and further prefixes of chance.
std::array<std::uint8_t, 15> random_bytes(Random& random, bool bits64, const Opening& opening);

}  // namespace doppel::fuzz_isa
