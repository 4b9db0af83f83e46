#pragma once

#include <cstdint>

#include "x86/registers.h"

namespace doppel::x86 {

/// An exception of the guest's instruction, thrown by whatever finds it and caught by the engine's run loop, which
/// restores RIP to the instruction's start and delivers it (events.h). Throw before the first architectural change of
/// an instruction: faults are precise.
struct Fault {
  std::uint8_t vector;
  bool has_error_code = false;
  std::uint32_t error_code = 0;
  std::uint64_t address = 0;  ///< CR2 of a #PF
};

[[noreturn]] inline void raise(std::uint8_t vector) {
  throw Fault{vector};
}
[[noreturn]] inline void raise(std::uint8_t vector, std::uint32_t error_code) {
  throw Fault{vector, true, error_code};
}
[[noreturn]] inline void raise_gp(std::uint32_t error_code = 0) {
  raise(vector::kGp, error_code);
}
[[noreturn]] inline void raise_ud() {
  raise(vector::kUd);
}

/// Thrown when a fault cannot be delivered: the processor enters the shutdown state (triple fault, SDM vol. 3, 6.15
/// #DF).
struct Shutdown {};

/// Thrown by an instruction that waits for what has been asked for: it has changed nothing, and starts again when the
/// events that are pending now have been delivered.
struct Restart {};

}  // namespace doppel::x86
