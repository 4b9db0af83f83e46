#pragma once

#include <cstdint>

#include "x86/cpu.h"

/// The stack as PUSH and POP see it: SS, and SP, ESP or RSP by the stack's width.
namespace doppel::x86 {

/// Width of the stack pointer in bytes: 8 in 64-bit mode, else by SS.D/B.
unsigned stack_address_size(const CpuState& state);
/// `size` is 2, 4 or 8. The pointer moves only when the access has succeeded.
void push(Cpu& cpu, std::uint64_t value, unsigned size);
/// The fault that a push would raise; changes nothing but A and D bits.
void probe_push(Cpu& cpu, unsigned size);
std::uint64_t pop(Cpu& cpu, unsigned size);
/// The value `depth` bytes above the top, the pointer unchanged.
std::uint64_t peek(Cpu& cpu, std::uint64_t depth, unsigned size);
void add_to_stack_pointer(CpuState& state, std::int64_t delta);

}  // namespace doppel::x86
