#include "memory/dirty_map.h"

#include <bit>

namespace doppel::memory {
namespace {

constexpr std::uint64_t words_for(std::uint64_t pages) {
  return (pages + 63) / 64;
}

}  // namespace

DirtyMap::DirtyMap(std::uint64_t pages)
    : pages_(pages), words_(std::make_unique<std::atomic<std::uint64_t>[]>(words_for(pages))) {}

std::vector<std::uint64_t> DirtyMap::collect() {
  std::vector<std::uint64_t> dirty;
  for (std::uint64_t i = 0; i < words_for(pages_); ++i) {
    std::uint64_t word = words_[i].exchange(0, std::memory_order_relaxed);
    for (; word != 0; word &= word - 1) dirty.push_back(i * 64 + static_cast<unsigned>(std::countr_zero(word)));
  }
  return dirty;
}

std::vector<std::uint64_t> DirtyMap::collect_bits() {
  std::vector<std::uint64_t> bits(words_for(pages_));
  for (std::uint64_t i = 0; i < bits.size(); ++i) {
    if (words_[i].load(std::memory_order_relaxed) != 0) bits[i] = words_[i].exchange(0, std::memory_order_relaxed);
  }
  return bits;
}

}  // namespace doppel::memory
