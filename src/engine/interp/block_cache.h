#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

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
  static constexpr std::size_t kLinearEntries = 1 << 14;
  static constexpr std::size_t kMaxOps = 400'000;  ///< some 64 MiB

  struct Entry {
    std::uint64_t linear = 0;
    std::uint64_t space = 0;
    Block* block = nullptr;
  };
  static std::size_t index(std::uint64_t linear) { return (linear ^ linear >> 14) & (kLinearEntries - 1); }

  struct Key {
    memory::GuestPhysical physical;
    std::uint32_t mode;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    std::size_t operator()(const Key& key) const {
      constexpr std::uint64_t kGoldenRatio = 0x9E37'79B9'7F4A'7C15;
      return (key.physical ^ std::uint64_t{key.mode} << 44) * kGoldenRatio >> 20;
    }
  };

  std::vector<Entry> linear_;
  std::unordered_map<Key, Block*, Hash> by_key_;
  std::vector<std::unique_ptr<Block>> blocks_;  ///< replaced ones too: others may still point to them
  std::size_t ops_ = 0;
};

}  // namespace doppel::engine::interp
