#pragma once

#include <cstdint>

#include "base/result.h"
#include "engine/dbt/code_cache.h"

namespace doppel::engine::direct {

/// The few instructions by which the process lives between pieces of guest code. Addresses are the process's.
struct Stub {
  const std::byte* wait = nullptr;      ///< where the process begins: waits for its turn
  const std::byte* idle = nullptr;      ///< an entry that hands back at once
  const std::byte* exit = nullptr;      ///< where guest code goes with its number in Shared::site
  const std::byte* handler = nullptr;   ///< of all signals
  const std::byte* restorer = nullptr;  ///< what a handler returns to

  /// At the start of the cache's code; the blocks come behind it. `base` is that of Layout.
  static Result<Stub> emit(dbt::CodeCache& cache, std::uint64_t base);
};

}  // namespace doppel::engine::direct
