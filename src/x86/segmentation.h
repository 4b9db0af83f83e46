#pragma once

#include <cstdint>

#include "x86/cpu.h"

/// Segment registers and the checks of segmented accesses; SDM vol. 3, ch. 3 and 5. All throw Fault.
namespace doppel::x86 {

/// The linear address of [offset, offset + size) in a segment: limit, type and null checks in legacy modes, the
/// canonical check in 64-bit mode (where only FS and GS have a base). #SS(0) for SS, else #GP(0).
LinearAddress segment_address(Cpu& cpu, SegReg segment, std::uint64_t offset, std::uint64_t size, Access access);

/// MOV and POP to ES, SS, DS, FS, GS, LDS and the like: real and virtual-8086 mode, or descriptor load with all checks
/// and the accessed bit. Does not set the SS shadow. CS is not for this function.
void load_segment(Cpu& cpu, SegReg segment, std::uint16_t selector);
void load_ldtr(Cpu& cpu, std::uint16_t selector);
void load_task_register(Cpu& cpu, std::uint16_t selector);

/// The real-mode and virtual-8086 contents of a segment register.
void set_real_mode_segment(Segment& segment, std::uint16_t selector);

/// An 8-byte descriptor, split up. For system descriptors in long mode `base` has its upper half too.
struct Descriptor {
  std::uint64_t raw = 0;
  Segment segment;  ///< selector filled in; base, limit and attributes decoded
};
/// Reads the descriptor of a selector from GDT or LDT; false when the selector is outside its table. #PF may be thrown.
bool read_descriptor(Cpu& cpu, std::uint16_t selector, Descriptor& descriptor);

/// LAR, LSL, VERR, VERW: whether the descriptor may be looked at, and what they report.
bool load_access_rights(Cpu& cpu, std::uint16_t selector, std::uint32_t& rights);
bool load_segment_limit(Cpu& cpu, std::uint16_t selector, std::uint32_t& limit);
bool verify_segment(Cpu& cpu, std::uint16_t selector, bool for_writing);

}  // namespace doppel::x86
