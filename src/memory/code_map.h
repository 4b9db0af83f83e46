#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>

#include "base/zeroed_array.h"
#include "memory/heavy_barrier.h"

namespace doppel::memory {

/// Which 128-byte lines of which RAM pages an engine has decoded or translated, and how often each page's code was
/// dropped.
///
/// Protocol (any thread). To decode: take generation(page), then add_code() for the lines that will be read, then read
/// the bytes; the result is valid as long as generation(page) stays the same. To write: store, then written(). A writer
/// either stored before the bytes are read, or sees the lines marked: a barrier between its store and its look at them
/// makes sure of that, and one in add_code. Which of the two is the cheap half of it is the engine's choice.
class CodeMap {
 public:
  static constexpr unsigned kLineShift = 7;

  explicit CodeMap(std::uint64_t pages);

  /// Each writer runs a barrier of its own, a few nanoseconds after each store, and add_code needs no membarrier, which
  /// interrupts all processors: for engines whose stores mostly pass this map by. Before any vCPU runs.
  void let_writers_fence() { writers_fence_ = true; }

  std::uint32_t generation(std::uint64_t page) const { return pages_[page].generation.load(std::memory_order_acquire); }
  /// For blocks that check their validity on entry without a look-up.
  const std::atomic<std::uint32_t>& generation_cell(std::uint64_t page) const { return pages_[page].generation; }

  /// Marks the lines of [offset, offset + length) as holding code; the range lies inside the page.
  void add_code(std::uint64_t page, std::uint64_t offset, std::uint64_t length);

  /// After a store to [offset, offset + length): true when it hit code; then the page's generation has moved on, its
  /// lines are unmarked and the listener has been told.
  bool written(std::uint64_t page, std::uint64_t offset, std::uint64_t length) {
    const std::uint32_t lines = lines_after_store(pages_[page].lines);
    if (lines == 0) [[likely]]
      return false;
    return (lines & line_mask(offset, length)) != 0 && drop(page);
  }

  bool has_code(std::uint64_t page) const { return pages_[page].lines.load(std::memory_order_relaxed) != 0; }
  /// Whether an engine may cache the right to write to this page without asking written() after each store, and the
  /// cell it may test inline instead.
  const std::atomic<std::uint32_t>& lines_cell(std::uint64_t page) const { return pages_[page].lines; }

  /// How to test lines_cell() after a store: the compiler must not move the store below the test (the processor may,
  /// where add_code's barrier sees to that).
  std::uint32_t lines_after_store(const std::atomic<std::uint32_t>& lines) const {
    if (writers_fence_) {
      std::atomic_thread_fence(std::memory_order_seq_cst);
    } else {
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }
    return lines.load(std::memory_order_relaxed);
  }

  /// Called, in the writer's thread, with the page whose code was dropped. Set once, before any vCPU runs.
  void set_listener(std::function<void(std::uint64_t page)> listener) { listener_ = std::move(listener); }

  static std::uint32_t line_mask(std::uint64_t offset, std::uint64_t length) {
    const unsigned first = static_cast<unsigned>(offset >> kLineShift);
    const unsigned last = static_cast<unsigned>((offset + length - 1) >> kLineShift);
    return (~std::uint32_t{0} >> (31 - last)) & (~std::uint32_t{0} << first);
  }

 private:
  struct Page {
    std::atomic<std::uint32_t> lines{0};
    std::atomic<std::uint32_t> fenced{0};  ///< those of `lines` that every writer is known to see
    std::atomic<std::uint32_t> generation{0};
  };

  bool drop(std::uint64_t page);

  std::mutex mutex_;  ///< held to change `lines` and `fenced`
  HeavyBarrier barrier_;
  bool writers_fence_ = false;
  ZeroedArray<Page> pages_;
  std::function<void(std::uint64_t)> listener_;
};

}  // namespace doppel::memory
