#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/reserved_array.h"
#include "engine/dbt/block.h"
#include "isa/code_area.h"

namespace doppel::engine::dbt {

/// What one vCPU has translated: the code, and what is known of each block. The vCPU's thread; never while translated
/// code runs. Code of blocks that are dropped is not reused before flush().
class CodeCache {
 public:
  static Result<CodeCache> create(isa::CodeArea area);

  /// Code that stays through flush(), before the first block: returns its address.
  const std::byte* add_permanent(std::span<const std::byte> code);
  /// Where the next block will be. Null when the cache is full.
  std::byte* room() const;
  /// No block may have more code than that, or more sites, or be longer.
  static constexpr std::size_t kMaxCode = std::numeric_limits<CodeOffset>::max(), kMaxSites = 4096,
                               kMaxInstructions = 64;

  Block* find(memory::GuestPhysical physical, std::uint32_t mode, x86::LinearAddress linear) const;
  /// What belongs to a new block: its code, which was assembled for room(), and its sites, numbered from next_site()
  /// on.
  struct Parts {
    std::span<const std::byte> code;
    std::span<const Site> sites;
    std::span<const Block::Mark> marks;
    std::span<const Block::Inexact> inexact = {};
  };
  /// Null for one that is too large.
  Block* add(std::unique_ptr<Block> block, const Parts& parts);
  /// Remembers that no block can be made for this place, until its page is dropped.
  void give_up(memory::GuestPhysical physical, std::uint32_t mode);
  bool given_up(memory::GuestPhysical physical, std::uint32_t mode) const {
    return !given_up_.empty() && given_up_.contains(key_of(physical, mode));
  }
  std::uint32_t next_site() const { return static_cast<std::uint32_t>(sites_.size()); }
  const Site& site(std::uint32_t number) const { return sites_[number]; }
  std::span<const Site> sites_of(const Block& block) const { return {&sites_[block.first_site], block.sites}; }
  /// The blocks that have code in a page of RAM.
  std::span<Block* const> blocks_in(memory::GuestPhysical page) const;
  /// The site with a call in front of this address.
  const Site& site_before(const std::byte* address) const;

  /// Tells a block with a second page that it is what Env::mappings counted then.
  void verify(const Block& block, std::uint64_t mappings);
  /// Lets the jump of a Chain site lead anywhere, or where it led at first. Nobody keeps account of it.
  void point(std::uint32_t site, const std::byte* to) { point_jump(sites_[site], to); }
  void unpoint(std::uint32_t site) { point_jump(sites_[site], sites_[site].block->code + sites_[site].resume); }
  /// Eight bytes of a block's code.
  void rewrite(const std::byte* at, std::uint64_t value);
  /// Lets the jump of a Chain site lead to `target` from now on.
  void link(std::uint32_t site, Block* target);
  /// Undoes the links to the page of this address, when its mapping has changed.
  void unlink_far_to(x86::LinearAddress address);
  /// Undoes the links to pages of which `same(linear page, physical page)` denies that one leads to the other.
  template <class Same>
  void unlink_far_unless(Same same) {
    std::erase_if(far_links_, [&](const auto& page) {
      if (same(page.first, page.second.physical)) return false;
      unlink(page.second);
      return true;
    });
  }

  /// A block of user code that has been jumped to by its address.
  struct Target {
    std::uint32_t mode;
    std::uint16_t page_offset;
    const std::byte* code;
  };
  void add_target(Block& block);
  /// Of a page: who jumps to one of them will soon jump to others.
  std::span<const Target> targets(memory::GuestPhysical page) const;

  /// Drops the blocks that are in a page of RAM, and every link to them. Returns the pages in which they start.
  std::vector<memory::GuestPhysical> drop_page(memory::GuestPhysical page);
  /// Drops everything.
  void flush();

  /// The block that holds this address of the executable mapping, or null.
  const Block* block_at(const std::byte* code) const;
  std::span<const std::byte> executable() const { return area_.executable(); }
  /// See CodeArea::fd().
  int fd() const { return area_.fd(); }
  /// What was there before the first block.
  std::span<const std::byte> permanent() const { return executable().first(permanent_); }

  struct Stats {
    std::uint64_t blocks = 0, instructions = 0, code_bytes = 0, links = 0, dropped = 0, flushes = 0;
  };
  const Stats& stats() const { return stats_; }

  /// Bytes that are in use now; what is known of blocks is estimated.
  struct Footprint {
    std::size_t code, code_limit, blocks, metadata;
  };
  Footprint footprint() const;

 private:
  CodeCache(isa::CodeArea area, ReservedArray<Site> sites, ReservedArray<Block::Mark> marks,
            ReservedArray<Block::Inexact> inexact)
      : area_(std::move(area)),
        sites_(std::move(sites)),
        marks_(std::move(marks)),
        inexact_(std::move(inexact)),
        table_(kInitialSlots) {}
  static std::uint64_t key_of(memory::GuestPhysical physical, std::uint32_t mode) {
    constexpr unsigned kModeShift = 48;
    return physical ^ std::uint64_t{mode} << kModeShift;
  }
  /// One slot of a table with open addressing; `block` is null where it was never used.
  struct Slot {
    std::uint64_t key = 0;
    Block* block = nullptr;
  };
  static constexpr std::size_t kInitialSlots = std::size_t{1} << 14;
  static constexpr std::size_t kGranule = 256;
  std::size_t slot_of(std::uint64_t key) const;
  void remember(Block* block);
  void point_jump(const Site& site, const std::byte* to);
  /// The sites that are linked to a page of supervisor code from others.
  struct FarLinks {
    memory::GuestPhysical physical = 0;
    std::vector<std::uint32_t> sites;
  };
  void unlink(const FarLinks& links);

  isa::CodeArea area_;
  std::size_t permanent_ = 0;
  std::vector<std::unique_ptr<Block>> blocks_;  ///< in the order of their code
  std::vector<std::uint32_t> ends_;             ///< of their code, from the area's beginning on
  std::vector<std::uint32_t> granules_;  ///< of kGranule bytes of code: the first block that ends behind its start
  ReservedArray<Site> sites_;
  ReservedArray<Block::Mark> marks_;
  ReservedArray<Block::Inexact> inexact_;
  std::vector<Slot> table_;  ///< by key; a power of two, half full at most
  std::size_t taken_ = 0;
  Block dropped_;  ///< stands in the slots of blocks that are no more
  std::unordered_map<memory::GuestPhysical, std::vector<Block*>> by_page_;
  std::unordered_map<memory::GuestPhysical, std::vector<Target>> targets_;
  std::unordered_map<std::uint64_t, memory::GuestPhysical> given_up_;  ///< by key: the page
  std::unordered_map<x86::LinearAddress, FarLinks> far_links_;         ///< by linear page
  Stats stats_;
};

}  // namespace doppel::engine::dbt
