#pragma once

#include <sched.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "engine/dbt/jump_table.h"

namespace doppel::engine::direct {

/// A system call for the process to make before it goes on.
struct Command {
  std::uint64_t number;
  std::array<std::uint64_t, 6> argument;
};

/// Why the process has handed back.
enum class Reason : std::uint32_t {
  None,
  Exit,           ///< at the site Shared::site; the registers are in Shared
  Signal,         ///< in guest code; the registers are in the signal's frame
  Kicked,         ///< before the first instruction: nothing has changed
  CommandFailed,  ///< the one with number Shared::commands_done; nothing else has been done
};

/// What the monitor and a process that executes guest code directly say to each other, one of them at a time: the turn
/// is passed by pipes, so by system calls, which guest code cannot make. gs points to it in the process. Guest code may
/// read and write it like any memory: nothing in it counts for more than the guest's own state, and what the process
/// reads before it goes back to guest code has been written after it was there last. The monitor believes nothing in
/// it.
struct Shared {
  // From the monitor.
  std::uint32_t command_count;
  std::atomic<std::uint32_t> kicked;  ///< hand back at once
  std::uint64_t entry;                ///< where to go on, in the process
  std::uint64_t fs_base;
  cpu_set_t cpus;  ///< for the process to move to

  // Both ways.
  std::uint64_t rflags;
  std::array<std::uint64_t, 16> gpr;

  // From the process.
  Reason reason;
  std::uint32_t site;
  std::uint32_t commands_done;
  std::int32_t command_error;  ///< -errno
  std::uint64_t frame;         ///< ucontext_t of the signal
  std::uint32_t signal;
  std::uint64_t began, ended;  ///< by the time-stamp counter: when guest code had the processor; 0 if it has not

  // The code's own.
  std::array<std::uint64_t, 2> spill;  ///< guest registers that are in use for something else
  std::uint64_t jump;                  ///< where an indirect jump is about to lead
  std::array<std::uint64_t, 4> stack;  ///< of the code that hands over

  struct alignas(64) Xsave {
    std::array<std::byte, 512> legacy;
    std::uint64_t xstate_bv, xcomp_bv;
    std::array<std::uint64_t, 6> reserved;
    std::array<std::array<std::uint64_t, 2>, 16> high;  ///< bits 128 to 255 of the YMM registers
  };
  Xsave xsave;

  static constexpr std::size_t kCommands = 240;
  std::array<Command, kCommands> commands;
};

/// What guest code looks jumps up by; it cannot write here.
struct Jumps {
  alignas(memory::kPageSize) std::uint64_t mask;  ///< JumpTable::kPlaces
  alignas(memory::kPageSize) dbt::JumpTable::Entries entries;
};

/// Where things are in the process, from its base on. Nothing else is mapped there but the guest's memory.
struct Layout {
  static constexpr std::size_t kState = 0, kStateBytes = 16384;
  static constexpr std::size_t kSignalStack = kState + kStateBytes, kSignalStackBytes = 65536;
  static constexpr std::size_t kSharedBytes = kSignalStack + kSignalStackBytes;  ///< written by both
  static constexpr std::size_t kJumps = std::size_t{1} << 20, kJumpBytes = sizeof(Jumps);
  static constexpr std::size_t kCode = std::size_t{4} << 20;
  static_assert(sizeof(Shared) <= kStateBytes && kJumps + kJumpBytes <= kCode);
};

/// The processor's state that goes to and fro: x87, SSE and AVX (SDM vol. 1, 13.1).
inline constexpr std::uint32_t kXsaveComponents = 7;

}  // namespace doppel::engine::direct
