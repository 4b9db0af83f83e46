#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/zeroed_array.h"
#include "engine/interp/block.h"

namespace doppel::engine::interp {

/// The blocks of one vCPU: by physical address and mode, and, for speed, by linear address in the present address
/// space. The vCPU's thread only.
class BlockCache {
 public:
  BlockCache();

  // By linear address. `space` names the mappings and the mode under which an entry was made; entries of others do not
  // exist.
  Block* find_linear(std::uint64_t linear, std::uint64_t space) const {
    const Entry& entry = linear_[index(linear)];
    return entry.linear == linear && entry.space == space ? entry.block : nullptr;
  }
  void put_linear(std::uint64_t linear, std::uint64_t space, Block* block) {
    linear_[index(linear)] = {linear, space, block};
  }

  Block* find(memory::GuestPhysical physical, std::uint32_t mode) const;
  /// Takes the block in place of an older one for the same address. May first drop all others when there are too many:
  /// true, and then no pointer to a block is valid any more but the returned one.
  bool put(std::unique_ptr<Block> block);
  void clear();

  std::size_t size() const { return blocks_.size(); }

 private:
  static constexpr std::size_t kLinearEntries = 1 << 13;
  static constexpr std::size_t kMaxOps = 400'000;  ///< some 64 MiB

  struct Entry {
    std::uint64_t linear = 0;
    std::uint64_t space = 0;
    Block* block = nullptr;
  };
  static std::size_t index(std::uint64_t linear) { return (linear ^ linear >> 13) & (kLinearEntries - 1); }

  /// One slot of a table with open addressing; `key` is 0 where it is free.
  struct Slot {
    std::uint64_t key = 0;
    Block* block = nullptr;
  };
  static constexpr std::size_t kSlots = 1 << 17;  ///< kMaxBlocks fill it by half at most
  static constexpr std::size_t kMaxBlocks = kSlots / 2;
  static std::uint64_t key_of(memory::GuestPhysical physical, std::uint32_t mode) {
    constexpr unsigned kModeShift = 52;  // above any physical address
    return (physical | std::uint64_t{mode} << kModeShift) + 1;
  }
  std::size_t slot_of(std::uint64_t key) const;

  ZeroedArray<Entry> linear_;
  ZeroedArray<Slot> slots_;
  std::vector<std::unique_ptr<Block>> blocks_;  ///< replaced ones too: others may still point to them
  std::size_t ops_ = 0;
};

}  // namespace doppel::engine::interp
