#pragma once

#include <cstdint>

#include "base/bits.h"
#include "engine/interp/context.h"
#include "engine/interp/mode.h"

namespace doppel::engine::interp {

/// RSI, RDI and RCX as a string instruction of one address size uses them; SDM vol. 1, 7.3.9.
class StringRegisters {
 public:
  StringRegisters(x86::CpuState& state, unsigned address_size, unsigned operand_size)
      : state_(state), mask_(low_mask(address_size * 8)), operand_size_(operand_size) {}

  std::uint64_t source() const { return state_.gpr[x86::kRsi] & mask_; }
  std::uint64_t destination() const { return state_.gpr[x86::kRdi] & mask_; }
  std::uint64_t count() const { return state_.gpr[x86::kRcx] & mask_; }
  std::uint64_t mask() const { return mask_; }
  bool backward() const { return (state_.rflags_without_of & x86::rflags::kDf) != 0; }

  /// Moves the pointers that the instruction uses by `iterations` in the direction of DF.
  void advance(bool source, bool destination, std::uint64_t iterations) {
    const std::uint64_t bytes = iterations * operand_size_;
    const std::uint64_t delta = backward() ? ~bytes + 1 : bytes;
    if (source) add(x86::kRsi, delta);
    if (destination) add(x86::kRdi, delta);
  }
  void count_down(std::uint64_t iterations) { add(x86::kRcx, ~iterations + 1); }

 private:
  /// A 32-bit register's upper half becomes zero, a 16-bit one's rest stays.
  void add(x86::Gpr reg, std::uint64_t delta) {
    std::uint64_t& value = state_.gpr[reg];
    const std::uint64_t sum = (value + delta) & mask_;
    value = mask_ == 0xFFFF ? (value & ~mask_) | sum : sum;
  }

  x86::CpuState& state_;
  std::uint64_t mask_;
  unsigned operand_size_;
};

/// Whether a repeated instruction has to let something else happen before it goes on.
inline bool must_pause_repetition(Context& context) {
  return context.cpu.ports.attention.any() || (context.block->mode & Mode::kSingle) != 0 ||
         context.cpu.mmu.take_code_modified();
}

/// Leaves the block with RIP at `op`, which has been executed in part. Nothing is retired by that. RF is set, so that
/// the instruction does not meet its own breakpoint again (SDM vol. 3, 17.3.1.1).
inline void stop_before(Context& context, const DecodedOp* op) {
  context.cpu.state.rflags_without_of |= x86::rflags::kRf;
  context.cpu.instructions -= 1;
  stop_after(context, op, context.block_rip + op->start);
}

}  // namespace doppel::engine::interp
