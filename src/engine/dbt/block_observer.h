#pragma once

#include <cstdint>

#include "engine/dbt/block.h"
#include "x86/fault.h"

namespace doppel::engine::dbt {

/// Is shown every run through a translated block. While there is one, blocks run one at a time, from exact state to
/// exact state: they are not linked, what is not translated ends them, and an exception is not delivered before the
/// observer has seen it. Called in the vCPU's thread.
class BlockObserver {
 public:
  virtual ~BlockObserver() = default;

  /// The block is about to run; the processor's state is that before its first instruction.
  virtual void before(const Block& block) = 0;

  enum class Left : std::uint8_t {
    Before,  ///< the instruction at RIP has not begun; with a fault, it raised that
    Branch,  ///< by a branch to RIP, or by running over the block's end
  };
  enum class Next : std::uint8_t {
    GoOn,
    Again,  ///< the observer has put everything back as it was: run the block once more
    Stop,   ///< run() returns ExitReason::Diverged
  };
  virtual Next after(Left left, const x86::Fault* fault) = 0;

  /// Cached translations of linear addresses have been dropped.
  virtual void flushed() = 0;
};

}  // namespace doppel::engine::dbt
