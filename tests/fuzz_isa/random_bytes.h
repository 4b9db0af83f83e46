#pragma once

#include <cstdint>
#include <vector>

#include "fuzz_isa/random.h"

namespace doppel::fuzz_isa {

/// 15 bytes, often beginning with an instruction: prefixes, an opcode of any map, ModRM, and whatever follows.
std::vector<std::uint8_t> random_bytes(Random& random, bool bits64);

}  // namespace doppel::fuzz_isa
