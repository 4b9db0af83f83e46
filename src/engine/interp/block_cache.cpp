#include "engine/interp/block_cache.h"

#include <algorithm>
#include <utility>

namespace doppel::engine::interp {

BlockCache::BlockCache() : linear_(kLinearEntries), slots_(kSlots) {}

/// Where the key is, or would go.
std::size_t BlockCache::slot_of(std::uint64_t key) const {
  constexpr std::uint64_t kGoldenRatio = 0x9E37'79B9'7F4A'7C15;
  std::size_t slot = (key * kGoldenRatio) >> 40 & (kSlots - 1);
  while (slots_[slot].key != key && slots_[slot].key != 0) slot = (slot + 1) & (kSlots - 1);
  return slot;
}

Block* BlockCache::find(memory::GuestPhysical physical, std::uint32_t mode) const {
  return slots_[slot_of(key_of(physical, mode))].block;
}

bool BlockCache::put(std::unique_ptr<Block> block) {
  const bool full = ops_ + block->op_count > kMaxOps || blocks_.size() >= kMaxBlocks;
  if (full) clear();
  ops_ += block->op_count;
  const std::uint64_t key = key_of(block->physical, block->mode);
  slots_[slot_of(key)] = {key, block.get()};
  blocks_.push_back(std::move(block));
  return full;
}

void BlockCache::clear() {
  std::fill(linear_.begin(), linear_.end(), Entry{});
  std::fill(slots_.begin(), slots_.end(), Slot{});
  blocks_.clear();
  ops_ = 0;
}

}  // namespace doppel::engine::interp
