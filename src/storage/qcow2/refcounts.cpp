#include "storage/qcow2/refcounts.h"

#include <algorithm>
#include <cerrno>

#include "base/system_error.h"

namespace doppel::storage::qcow2 {
namespace {

constexpr std::uint64_t kSliceSize = 16384;

}  // namespace

std::uint64_t load_refcount(unsigned order, const std::byte* block, std::uint64_t index) {
  switch (order) {
    case 3:
      return std::to_integer<std::uint64_t>(block[index]);
    case 4:
      return load_be<std::uint16_t>(block + index * 2);
    case 5:
      return load_be<std::uint32_t>(block + index * 4);
    case 6:
      return load_be<std::uint64_t>(block + index * 8);
    default: {
      const unsigned width = 1U << order;
      const std::uint64_t per_byte = 8 / width;
      return (std::to_integer<unsigned>(block[index / per_byte]) >> (index % per_byte * width)) & ((1U << width) - 1);
    }
  }
}

void store_refcount(unsigned order, std::byte* block, std::uint64_t index, std::uint64_t count) {
  switch (order) {
    case 3:
      block[index] = static_cast<std::byte>(count);
      break;
    case 4:
      store_be(block + index * 2, static_cast<std::uint16_t>(count));
      break;
    case 5:
      store_be(block + index * 4, static_cast<std::uint32_t>(count));
      break;
    case 6:
      store_be(block + index * 8, count);
      break;
    default: {
      const unsigned width = 1U << order;
      const std::uint64_t per_byte = 8 / width;
      const auto shift = static_cast<unsigned>(index % per_byte * width);
      std::byte& byte = block[index / per_byte];
      byte = (byte & ~static_cast<std::byte>(((1U << width) - 1) << shift)) | static_cast<std::byte>(count << shift);
    }
  }
}

Refcounts::Refcounts(File& file, const Header& header, std::uint64_t cache_limit)
    : file_(file),
      header_(header),
      per_block_(header.refcounts_per_block()),
      blocks_(file, std::min(header.cluster_size(), kSliceSize), cache_limit) {}

Result<void> Refcounts::load() {
  blocks_.clear();
  changed_entries_.clear();
  moved_ = false;
  first_free_ = 0;
  quarantined_.clear();
  table_offset_ = written_offset_ = header_.refcount_table_offset;
  table_clusters_ = written_clusters_ = header_.refcount_table_clusters;
  std::vector<std::byte> bytes(table_clusters_ * header_.cluster_size());
  if (const int error = file_.read_bytes(table_offset_, bytes); error != 0) {
    return system_error("cannot read the refcount table of " + file_.name(), error);
  }
  table_.resize(bytes.size() / 8);
  for (std::size_t i = 0; i < table_.size(); ++i)
    table_[i] = load_be<std::uint64_t>(&bytes[i * 8]) & ~std::uint64_t{511};
  return {};
}

int Refcounts::block_of(std::uint64_t cluster, bool create, TableCache::Slice*& slice, std::uint64_t& index) {
  slice = nullptr;
  const std::uint64_t block = cluster / per_block_;
  if (block >= table_.size() || table_[block] == 0) {
    if (!create) return 0;
    if (const int error = create_block(block); error != 0) return error;
  }
  const std::uint64_t offset = table_[block];
  if (offset % header_.cluster_size() != 0 || offset >= kMaxFileOffset) return EIO;
  const std::uint64_t within = cluster % per_block_;
  const std::uint64_t per_slice = blocks_.slice_size() * 8 / header_.refcount_bits();
  int error = 0;
  slice = blocks_.get(offset + within / per_slice * blocks_.slice_size(), error);
  index = within % per_slice;
  return error;
}

int Refcounts::get(std::uint64_t cluster, std::uint64_t& count) {
  TableCache::Slice* slice = nullptr;
  std::uint64_t index = 0;
  if (const int error = block_of(cluster, false, slice, index); error != 0) return error;
  count = slice != nullptr ? load_refcount(header_.refcount_order, slice->bytes.data(), index) : 0;
  return 0;
}

int Refcounts::set(std::uint64_t cluster, std::uint64_t count) {
  if (count > header_.refcount_max()) return ERANGE;
  TableCache::Slice* slice = nullptr;
  std::uint64_t index = 0;
  if (const int error = block_of(cluster, count != 0, slice, index); error != 0) return error;
  if (slice == nullptr) return 0;
  store_refcount(header_.refcount_order, slice->bytes.data(), index, count);
  blocks_.mark_dirty(*slice);
  if (count == 0) first_free_ = std::min(first_free_, cluster);
  return 0;
}

int Refcounts::increment(std::uint64_t cluster) {
  std::uint64_t count = 0;
  if (const int error = get(cluster, count); error != 0) return error;
  return set(cluster, count + 1);
}

int Refcounts::decrement(std::uint64_t cluster) {
  std::uint64_t count = 0;
  if (const int error = get(cluster, count); error != 0) return error;
  return count == 0 ? EIO : set(cluster, count - 1);
}

void Refcounts::release(std::uint64_t cluster) {
  if (quarantined_.erase(cluster) != 0) first_free_ = std::min(first_free_, cluster);
}

void Refcounts::cover(std::uint64_t block) {
  if (block >= table_.size()) table_.resize(block + 1);
}

void Refcounts::place_block(std::uint64_t block, std::uint64_t cluster) {
  cover(block);
  const std::uint64_t offset = cluster << header_.cluster_bits;
  for (std::uint64_t at = 0; at < header_.cluster_size(); at += blocks_.slice_size()) blocks_.create(offset + at);
  table_[block] = offset;
  changed_entries_.insert(block);
}

int Refcounts::create_block(std::uint64_t block) {
  // The first one speaks of the header at least: an image without it is damaged. Of any other, nothing that it speaks
  // of is in use yet, so it can lie there itself.
  if (block == 0) return EIO;
  const std::uint64_t cluster = block * per_block_;
  if ((cluster >> (56 - header_.cluster_bits)) != 0) return ENOSPC;
  if (block * 8 >= kMaxRefcountTableBytes) return EFBIG;
  place_block(block, cluster);
  if (const int error = set(cluster, 1); error != 0) return error;
  return ensure_table_fits();
}

int Refcounts::ensure_table_fits() {
  while (table_.size() > table_clusters_ * header_.cluster_size() / 8) {
    // With room for what will follow, the blocks for this move included.
    const std::uint64_t entries = table_.size() + table_.size() / 2 + 8;
    const std::uint64_t clusters =
        std::min(header_.clusters_for(entries * 8), header_.clusters_for(kMaxRefcountTableBytes));
    std::uint64_t offset = 0;
    if (const int error = find_adjacent(clusters, offset); error != 0) return error;
    // A table that never reached the file can go at once; the file's own goes when the new one is there.
    for (std::uint32_t i = 0; moved_ && i < table_clusters_; ++i) {
      if (const int error = decrement((table_offset_ >> header_.cluster_bits) + i); error != 0) return error;
    }
    table_offset_ = offset;
    table_clusters_ = static_cast<std::uint32_t>(clusters);
    moved_ = true;
  }
  return 0;
}

int Refcounts::allocate(std::uint64_t wanted, std::uint64_t& offset, std::uint64_t& count) {
  // Cluster 0 is the header's, whatever its refcount says.
  std::uint64_t cluster = std::max<std::uint64_t>(first_free_, 1);
  for (count = 0; count < wanted; ++cluster) {
    TableCache::Slice* slice = nullptr;
    std::uint64_t index = 0;
    // Creating a block may allocate more, a new table; the run found so far is marked already and stays ours.
    const bool beyond = (cluster >> (56 - header_.cluster_bits)) != 0;
    if (const int error = beyond ? ENOSPC : block_of(cluster, true, slice, index); error != 0) {
      if (count == 0) return error;
      break;
    }
    if (load_refcount(header_.refcount_order, slice->bytes.data(), index) != 0 || quarantined_.contains(cluster)) {
      if (count != 0) break;
      continue;
    }
    store_refcount(header_.refcount_order, slice->bytes.data(), index, 1);
    blocks_.mark_dirty(*slice);
    if (count == 0) offset = cluster << header_.cluster_bits;
    ++count;
  }
  first_free_ = cluster;
  return 0;
}

int Refcounts::allocate_adjacent(std::uint64_t count, std::uint64_t& offset) {
  if (count == 1) return allocate(1, offset, count);
  if (const int error = find_adjacent(count, offset); error != 0) return error;
  return ensure_table_fits();
}

int Refcounts::find_adjacent(std::uint64_t count, std::uint64_t& offset) {
  // Behind everything, with the refcount blocks that are missing there right behind it.
  std::uint64_t start = header_.clusters_for(file_.size());
  std::uint64_t blocks = 0;
  for (std::uint64_t cluster = start; cluster < start + count + blocks; ++cluster) {
    const std::uint64_t block = cluster / per_block_;
    if (cluster == start || cluster % per_block_ == 0) {
      if (block * 8 >= kMaxRefcountTableBytes) return EFBIG;
      if (block >= table_.size() || table_[block] == 0) ++blocks;
    }
    std::uint64_t used = 0;
    if (const int error = get(cluster, used); error != 0) return error;
    if (used != 0 || quarantined_.contains(cluster)) {
      start = cluster + 1;
      blocks = 0;
    }
  }
  if (((start + count + blocks) >> (56 - header_.cluster_bits)) != 0) return ENOSPC;
  std::uint64_t next = start + count;
  for (std::uint64_t block = start / per_block_; block <= (start + count + blocks - 1) / per_block_; ++block) {
    cover(block);
    if (table_[block] != 0) continue;
    place_block(block, next++);
  }
  for (std::uint64_t cluster = start; cluster < start + count + blocks; ++cluster) {
    if (const int error = set(cluster, 1); error != 0) return error;
  }
  offset = start << header_.cluster_bits;
  return 0;
}

Refcounts::TableChange Refcounts::begin_table_write() {
  TableChange change;
  change.moved = moved_;
  change.offset = table_offset_;
  change.clusters = table_clusters_;
  change.old_offset = written_offset_;
  change.old_clusters = written_clusters_;
  if (moved_) {
    for (std::uint64_t i = 0; i < table_.size(); ++i) change.entries.emplace_back(i, table_[i]);
  } else {
    for (const std::uint64_t i : changed_entries_) change.entries.emplace_back(i, table_[i]);
  }
  changed_entries_.clear();
  moved_ = false;
  return change;
}

void Refcounts::end_table_write(const TableChange& change, bool written) {
  if (written) {
    written_offset_ = change.offset;
    written_clusters_ = change.clusters;
    return;
  }
  for (const auto& [index, value] : change.entries) changed_entries_.insert(index);
  moved_ = moved_ || change.moved;
}

}  // namespace doppel::storage::qcow2
