#pragma once

#include <cstdint>

#include "x86/cpu.h"

/// The stack on which a far call, an exception or an interrupt leaves its frame; SDM vol. 3, 5.8.5 and 6.14.
namespace doppel::x86 {

/// A stack being filled: pushes reach memory at once, SS and RSP change only on commit(), so that a fault on the way
/// leaves the registers as they were.
class PendingStack {
 public:
  /// The current stack.
  static PendingStack current(Cpu& cpu);
  /// That of privilege level `cpl` in the TSS, with all checks: #TS, #SS; SDM vol. 3, 7.2.1.
  static PendingStack inner(Cpu& cpu, unsigned cpl);
  /// Long mode: entry 1–7 of the interrupt stack table; at an unchanged `cpl` SS stays.
  static PendingStack interrupt_stack_table(Cpu& cpu, unsigned ist, unsigned cpl);

  /// Long-mode frames start on a 16-byte boundary, and are pushed with 64-bit addresses even from compatibility mode.
  void prepare_long_mode_frame();
  /// `size` is 2, 4 or 8. #SS with the selector of a new stack, else #SS(0).
  void push(std::uint64_t value, unsigned size);
  /// Loads SS and RSP. CPL follows SS.
  void commit();

 private:
  PendingStack(Cpu& cpu, const Segment& ss, std::uint64_t rsp, unsigned address_size, View view, std::uint32_t error)
      : cpu_(cpu), ss_(ss), rsp_(rsp), address_size_(address_size), view_(view), error_code_(error) {}

  Cpu& cpu_;
  Segment ss_;
  std::uint64_t rsp_;
  unsigned address_size_;
  View view_;
  std::uint32_t error_code_;
};

}  // namespace doppel::x86
