#pragma once

#include "fuzz_isa/case.h"
#include "fuzz_isa/random.h"

/// Register and memory contents: those at which things change, and random ones.
namespace doppel::fuzz_isa {

std::uint64_t integer(Random& random);
/// An address in or near the data pages, for an access of `size` bytes.
std::uint64_t data_address(Random& random, std::size_t size);
/// Random arithmetic flags; seldom DF, AC and TF.
std::uint64_t flags(Random& random);
/// One of those that may mean something.
std::uint16_t selector(Random& random);
x86::FpuState fpu(Random& random);
x86::Ymm vector(Random& random);
Memory memory(Random& random);

}  // namespace doppel::fuzz_isa
