#pragma once

#include <cstdint>

#include "base/bits.h"
#include "x86/cpu.h"

/// Segment, system and gate descriptors in memory; SDM vol. 3, 3.4.2, 3.4.5, 3.5, 5.8.3 and 6.11.
namespace doppel::x86 {

/// Types of system descriptors (S clear); SDM vol. 3, table 3-2. In long mode those named 32 are the 64-bit kinds.
enum SystemType : std::uint8_t {
  kTss16 = 1,
  kLdt = 2,
  kTss16Busy = 3,
  kCallGate16 = 4,
  kTaskGate = 5,
  kInterruptGate16 = 6,
  kTrapGate16 = 7,
  kTss32 = 9,
  kTss32Busy = 11,
  kCallGate32 = 12,
  kInterruptGate32 = 14,
  kTrapGate32 = 15,
};

/// Index 0 of the GDT, whatever the RPL.
constexpr bool is_null(std::uint16_t selector) {
  return (selector & 0xFFFC) == 0;
}
constexpr unsigned rpl(std::uint16_t selector) {
  return selector & 3U;
}
/// The selector as error codes hold it: index and TI; SDM vol. 3, 6.13.
constexpr std::uint32_t selector_error(std::uint16_t selector) {
  return selector & 0xFFFCU;
}

/// Whose rights implicit accesses have: descriptor tables and the TSS, at any CPL, whatever EFLAGS.AC says.
inline View implicit_view(const CpuState& state) {
  return (state.cr4 & cr4::kSmap) != 0 ? View::SupervisorSmap : View::Supervisor;
}

/// A descriptor, split up. System descriptors of long mode are 16 bytes: `base` and `high` then hold their upper half.
struct Descriptor {
  std::uint64_t raw = 0;
  std::uint64_t high = 0;
  LinearAddress address = 0;
  Segment segment;  ///< selector filled in; base, limit and attributes decoded

  bool conforming() const { return segment.is_code() && (segment.type() & 4) != 0; }
  bool readable() const { return segment.code_or_data() && (!segment.is_code() || (segment.type() & 2) != 0); }
  bool writable_data() const { return segment.code_or_data() && (segment.type() & 0xA) == 2; }
  bool system(SystemType type) const { return !segment.code_or_data() && segment.type() == type; }
};

/// Splits up the eight bytes of a descriptor.
Segment decode_segment(std::uint64_t raw, std::uint16_t selector);

/// Reads the descriptor of a selector from the GDT or LDT. False when it lies outside its table, or when it is the
/// 16-byte kind and its upper half is malformed. #PF may be thrown. The null selector is not special here.
bool read_descriptor(Cpu& cpu, std::uint16_t selector, Descriptor& descriptor);
/// The same for a transfer of control: #GP(0) for the null selector, #GP(selector) where read_descriptor says false.
Descriptor require_descriptor(Cpu& cpu, std::uint16_t selector);

/// Sets the accessed bit in memory and in `descriptor`, by a locked write, if it is clear.
void mark_accessed(Cpu& cpu, Descriptor& descriptor);
/// Sets or clears the busy bit of a TSS descriptor in memory and in `descriptor`, by a locked write.
void mark_busy(Cpu& cpu, Descriptor& descriptor, bool busy);

/// Call, task, interrupt and trap gates.
struct Gate {
  unsigned type;
  unsigned dpl;
  bool present;
  std::uint16_t selector;
  std::uint64_t offset;
  unsigned parameters;  ///< of call gates
  unsigned ist;         ///< of long mode's interrupt gates
};
Gate decode_gate(std::uint64_t low, std::uint64_t high);

}  // namespace doppel::x86
