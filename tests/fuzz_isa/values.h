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
/// Holds the frames of return_frame(), among others.
Memory memory(Random& random);

/// Somewhere to go to: an address that holds HLT, whatever the batch.
struct FarTarget {
  std::uint16_t selector;
  std::uint64_t offset;
};
FarTarget far_target(Random& random, unsigned size);
/// The linear address of a frame that an IRET, or a far return, of `size` bytes can return by.
std::uint64_t return_frame(Random& random, unsigned size);

}  // namespace doppel::fuzz_isa
