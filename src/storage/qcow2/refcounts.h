#pragma once

#include <cstdint>
#include <set>
#include <unordered_set>
#include <vector>

#include "base/result.h"
#include "storage/qcow2/header.h"
#include "storage/qcow2/table_cache.h"

namespace doppel::storage::qcow2 {

/// Entry `index` of a refcount block whose refcounts have 2^`order` bits.
std::uint64_t load_refcount(unsigned order, const std::byte* block, std::uint64_t index);
void store_refcount(unsigned order, std::byte* block, std::uint64_t index, std::uint64_t count);

/// Which host clusters are in use: the refcount table, its blocks, and the search for free clusters. Everything happens
/// in memory until written by the owner (see Commit). Not thread-safe. Calls return 0 or an errno; EIO means that the
/// image's structures contradict each other.
class Refcounts {
 public:
  Refcounts(File& file, const Header& header, std::uint64_t cache_limit);

  /// Reads the table anew, forgetting all else.
  Result<void> load();

  int get(std::uint64_t cluster, std::uint64_t& count);
  int set(std::uint64_t cluster, std::uint64_t count);
  /// ERANGE: a refcount of this width cannot go so high.
  int increment(std::uint64_t cluster);
  int decrement(std::uint64_t cluster);
  /// A cluster that is not to be allocated yet although nothing refers to it in memory: the file still does.
  void quarantine(std::uint64_t cluster) { quarantined_.insert(cluster); }
  void release(std::uint64_t cluster);

  /// 1 to `wanted` adjacent free clusters, which then have refcount 1. `offset` is in bytes.
  int allocate(std::uint64_t wanted, std::uint64_t& offset, std::uint64_t& count);
  /// Exactly `count` adjacent clusters, for tables.
  int allocate_adjacent(std::uint64_t count, std::uint64_t& offset);

  /// Clusters that the refcount table can speak of at all.
  std::uint64_t covered_clusters() const { return table_.size() * per_block_; }
  const std::vector<std::uint64_t>& table() const { return table_; }
  TableCache& blocks() { return blocks_; }

  /// What of the refcount table the file does not have yet.
  struct TableChange {
    bool moved = false;  ///< the whole table, at `offset`, with `clusters`
    std::uint64_t offset = 0;
    std::uint32_t clusters = 0;
    std::uint64_t old_offset = 0;
    std::uint32_t old_clusters = 0;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> entries;  ///< index, value; all of them if moved
  };
  bool table_changed() const { return !changed_entries_.empty() || moved_; }
  TableChange begin_table_write();
  void end_table_write(const TableChange& change, bool written);

 private:
  int block_of(std::uint64_t cluster, bool create, TableCache::Slice*& slice, std::uint64_t& index);
  int create_block(std::uint64_t block);
  int find_adjacent(std::uint64_t count, std::uint64_t& offset);
  void place_block(std::uint64_t block, std::uint64_t cluster);
  void cover(std::uint64_t block);
  int ensure_table_fits();

  File& file_;
  const Header& header_;
  const std::uint64_t per_block_;
  TableCache blocks_;
  std::vector<std::uint64_t> table_;  ///< offsets of the blocks, 0: none
  std::set<std::uint64_t> changed_entries_;
  std::uint64_t table_offset_ = 0;  ///< where the table is to be, once written
  std::uint32_t table_clusters_ = 0;
  std::uint64_t written_offset_ = 0;  ///< where the file's header says it is
  std::uint32_t written_clusters_ = 0;
  bool moved_ = false;
  std::uint64_t first_free_ = 0;  ///< no cluster below is free, but those in quarantine
  std::unordered_set<std::uint64_t> quarantined_;
};

}  // namespace doppel::storage::qcow2
