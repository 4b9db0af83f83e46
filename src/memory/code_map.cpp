#include "memory/code_map.h"

namespace doppel::memory {

CodeMap::CodeMap(std::uint64_t pages) : pages_(pages) {}

void CodeMap::add_code(std::uint64_t page, std::uint64_t offset, std::uint64_t length) {
  Page& entry = pages_[page];
  const std::uint32_t mask = line_mask(offset, length);
  // `fenced`, not `lines`: another thread may have marked the lines and still be on its way to the barrier.
  if ((entry.fenced.load(std::memory_order_acquire) & mask) == mask) return;
  const std::lock_guard guard(mutex_);
  entry.lines.fetch_or(mask, std::memory_order_relaxed);
  if (writers_fence_) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
  } else {
    barrier_.run();
  }
  entry.fenced.fetch_or(mask, std::memory_order_release);
}

bool CodeMap::drop(std::uint64_t page) {
  {
    const std::lock_guard guard(mutex_);
    Page& entry = pages_[page];
    // The generation moves last: whoever reads the new one finds the lines unmarked and marks them again; whoever read
    // the old one, and found them still marked, is out of date as soon as it moves.
    entry.fenced.store(0, std::memory_order_relaxed);
    entry.lines.store(0, std::memory_order_relaxed);
    entry.generation.fetch_add(1, std::memory_order_release);
  }
  if (listener_) listener_(page);
  return true;
}

}  // namespace doppel::memory
