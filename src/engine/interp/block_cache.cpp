#include "engine/interp/block_cache.h"

#include <algorithm>

namespace doppel::engine::interp {

BlockCache::BlockCache() : linear_(kLinearEntries) {}

Block* BlockCache::find(memory::GuestPhysical physical, std::uint32_t mode) const {
  const auto found = by_key_.find({physical, mode});
  return found == by_key_.end() ? nullptr : found->second;
}

bool BlockCache::put(std::unique_ptr<Block> block) {
  const bool full = ops_ + block->ops.size() > kMaxOps;
  if (full) clear();
  ops_ += block->ops.size();
  by_key_[{block->physical, block->mode}] = block.get();
  blocks_.push_back(std::move(block));
  return full;
}

void BlockCache::clear() {
  std::fill(linear_.begin(), linear_.end(), Entry{});
  by_key_.clear();
  blocks_.clear();
  ops_ = 0;
}

}  // namespace doppel::engine::interp
