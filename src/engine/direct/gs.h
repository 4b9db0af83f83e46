#pragma once

#include <asmjit/x86.h>

#include <csignal>
#include <cstddef>
#include <cstdint>

#include "engine/direct/shared_state.h"

namespace doppel::engine::direct {

/// What tells the process that something waits for its processor.
inline constexpr int kKick = SIGURG;

/// The descriptors of the process.
inline constexpr int kMemoryFd = 0, kTurnsFd = 1, kMonitorFd = 2;

/// A place in Shared, or behind it, as the process's code sees it.
inline asmjit::x86::Mem gs(std::size_t offset, std::uint32_t size = 8) {
  asmjit::x86::Mem mem(static_cast<std::uint64_t>(offset), size);
  mem.setSegment(asmjit::x86::gs);
  mem.setAbs();
  return mem;
}

}  // namespace doppel::engine::direct
