#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

namespace doppel::memory {

/// Which pages of RAM were written since the map was last collected. One bit a page, set by any thread.
///
/// Engines mark a page when they cache the right to write to it, not at each store; so collect() is only right while
/// every vCPU is paused, and every engine must drop its cached write rights before it runs again
/// (VcpuRunner::flush_translations).
class DirtyMap {
 public:
  explicit DirtyMap(std::uint64_t pages);

  void mark(std::uint64_t page) {
    std::atomic<std::uint64_t>& word = words_[page / 64];
    const std::uint64_t mask = std::uint64_t{1} << (page % 64);
    if ((word.load(std::memory_order_relaxed) & mask) == 0) word.fetch_or(mask, std::memory_order_relaxed);
  }
  bool is_dirty(std::uint64_t page) const {
    return (words_[page / 64].load(std::memory_order_relaxed) >> (page % 64) & 1) != 0;
  }
  /// The indices of all dirty pages, ascending; the map is clear afterwards.
  std::vector<std::uint64_t> collect();
  /// The same as bits, page n being bit n % 64 of word n / 64: the quick form, for machines that wait meanwhile.
  std::vector<std::uint64_t> collect_bits();

 private:
  std::uint64_t pages_;
  std::unique_ptr<std::atomic<std::uint64_t>[]> words_;
};

}  // namespace doppel::memory
