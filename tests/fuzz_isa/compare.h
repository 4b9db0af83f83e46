#pragma once

#include <string>

#include "fuzz_isa/case.h"

namespace doppel::fuzz_isa {

/// What differs, one thing a line; empty when nothing does that the manuals define. Left out: the x87 pointers, which
/// processors save differently.
std::string differences(const Case& made, const Outcome& native, const Outcome& guest);

/// The instructions of a case with their addresses, and the registers and flags that it starts with.
std::string describe(const Case& made);

}  // namespace doppel::fuzz_isa
