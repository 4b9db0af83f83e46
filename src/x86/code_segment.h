#pragma once

#include <cstdint>

#include "x86/descriptor.h"

/// What all loads of CS have in common.
namespace doppel::x86 {

/// #GP(0) unless `offset` can be executed in this code segment: inside its limit, or canonical in 64-bit mode.
void check_code_offset(const CpuState& state, const Segment& code, std::uint64_t offset);

/// #GP(selector) unless a code segment, and in long mode not both L and D.
void check_code_type(const CpuState& state, const Descriptor& descriptor);

/// Loads CS with RPL = `cpl`, and RIP. The MMU's view is the caller's business, after SS.
void enter_code_segment(CpuState& state, const Segment& code, unsigned cpl, std::uint64_t rip);

}  // namespace doppel::x86
