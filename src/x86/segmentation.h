#pragma once

#include <cstdint>

#include "x86/cpu.h"
#include "x86/descriptor.h"

/// Segment registers and the checks of segmented accesses; SDM vol. 3, ch. 3 and 5. All throw Fault.
namespace doppel::x86 {

/// The linear address of [offset, offset + size) in a segment: limit, type and null checks in legacy modes, the
/// canonical check in 64-bit mode (where only FS and GS have a base). #SS(0) for SS, else #GP(0).
LinearAddress segment_address(Cpu& cpu, SegReg segment, std::uint64_t offset, std::uint64_t size, Access access);

/// Whether [offset, offset + size) lies inside a segment of a legacy mode, expand-down ones included.
bool within_limit(const Segment& segment, std::uint64_t offset, std::uint64_t size);

/// MOV and POP to ES, SS, DS, FS, GS, LDS and the like: real and virtual-8086 mode, or descriptor load with all checks
/// and the accessed bit. Does not set the SS shadow. CS is not for this function.
void load_segment(Cpu& cpu, SegReg segment, std::uint16_t selector);
/// LLDT and LTR; privilege and mode have been checked by the caller.
void load_ldtr(Cpu& cpu, std::uint16_t selector);
void load_task_register(Cpu& cpu, std::uint16_t selector);

/// A load in real mode: selector and base change, limit and attributes stay as they are cached ("big real mode").
void set_real_mode_segment(Segment& segment, std::uint16_t selector);
/// A load in virtual-8086 mode: 64 KiB, writable, DPL 3.
void set_virtual_8086_segment(Segment& segment, std::uint16_t selector);
/// What a null selector leaves behind. `dpl` matters for SS, which holds CPL.
void set_null_segment(Segment& segment, std::uint16_t selector, unsigned dpl = 0);

/// LAR, LSL, VERR, VERW: whether the descriptor may be looked at, and what they report.
bool load_access_rights(Cpu& cpu, std::uint16_t selector, std::uint32_t& rights);
bool load_segment_limit(Cpu& cpu, std::uint16_t selector, std::uint32_t& limit);
bool verify_segment(Cpu& cpu, std::uint16_t selector, bool for_writing);

}  // namespace doppel::x86
