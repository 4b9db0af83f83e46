// How changes of the tables reach the file.
#include <algorithm>
#include <array>
#include <cerrno>

#include "storage/qcow2/image.h"

namespace doppel::storage::qcow2 {
namespace {

constexpr std::uint64_t kRefcountTableOffsetAt = 48;

}  // namespace

/// What one commit writes: copies, so that the tables may go on changing meanwhile.
struct Qcow2Image::Batch {
  std::vector<TableCache::Copy> refcounts;
  std::vector<TableCache::Copy> new_tables;                 ///< L2 slices that nothing in the file refers to yet
  std::vector<TableCache::Copy> tables;                     ///< other L2 slices
  std::vector<std::pair<std::uint64_t, std::uint64_t>> l1;  ///< index, value
  Refcounts::TableChange refcount_table;
  bool refcount_table_changed = false;
  std::vector<Free> frees;
  bool marked = false;  ///< refcounts go under the dirty bit; those of `frees` are among them

  bool empty() const {
    return refcounts.empty() && new_tables.empty() && tables.empty() && l1.empty() && !refcount_table_changed &&
           frees.empty();
  }
};

int Qcow2Image::flush() {
  if (options_.read_only || state_.is_synced()) return 0;
  return commit();
}

/// Returns after a whole commit that began after the call. Callers that come while one is running share the next.
int Qcow2Image::commit() {
  std::unique_lock guard(turn_);
  const std::uint64_t needed = commits_started_ + 1;
  while (commits_ended_ < needed) {
    if (committing_) {
      turn_changed_.wait(guard);
      continue;
    }
    committing_ = true;
    const std::uint64_t mine = ++commits_started_;
    guard.unlock();
    const int error = commit_once();
    guard.lock();
    committing_ = false;
    commits_ended_ = mine;
    last_commit_error_ = error;
    turn_changed_.notify_all();
  }
  return last_commit_error_;
}

int Qcow2Image::commit_once() {
  const std::uint64_t covered = state_.begin();
  Batch batch;
  {
    const std::lock_guard guard(meta_);
    begin_batch(batch);
  }
  int error = write_batch(batch);
  {
    const std::lock_guard guard(meta_);
    end_batch(batch, error == 0);
  }
  if (error == 0 && !batch.frees.empty()) {
    punch_holes(batch.frees);
    error = apply_frees(batch.frees);
  }
  if (error == 0) state_.complete(covered);
  return error;
}

void Qcow2Image::begin_batch(Batch& batch) {
  std::set<std::uint64_t> new_tables;
  for (const std::uint64_t index : changed_l1_) {
    batch.l1.emplace_back(index, l1_[index]);
    new_tables.insert(l1_[index] & kOffsetMask);
  }
  changed_l1_.clear();
  for (TableCache::Copy& copy : l2_.begin_write()) {
    const bool is_new = new_tables.contains(copy.offset & ~(header_.cluster_size() - 1));
    (is_new ? batch.new_tables : batch.tables).push_back(std::move(copy));
  }
  batch.frees.swap(frees_);
  batch.marked = header_.version >= 3;
  for (Free& free : batch.frees) {
    if (!batch.marked || free.decremented) continue;
    // An image may lie about its refcounts; too low, and there is nothing left to free.
    free.decremented = true;
    refcounts_.decrement(free.offset >> header_.cluster_bits);
    refcounts_.quarantine(free.offset >> header_.cluster_bits);
  }
  batch.refcounts = refcounts_.blocks().begin_write();
  batch.refcount_table_changed = refcounts_.table_changed();
  if (batch.refcount_table_changed) batch.refcount_table = refcounts_.begin_table_write();
}

int Qcow2Image::write_copies(const std::vector<TableCache::Copy>& copies) {
  for (const TableCache::Copy& copy : copies) {
    if (const int error = file_->write_bytes(copy.offset, copy.bytes); error != 0) return error;
  }
  return 0;
}

int Qcow2Image::write_refcount_table(const Refcounts::TableChange& change) {
  if (!change.moved) {
    for (const auto& [index, value] : change.entries) {
      std::array<std::byte, 8> bytes{};
      store_be(bytes.data(), value);
      if (const int error = file_->write_bytes(change.offset + index * 8, bytes); error != 0) return error;
    }
    return 0;
  }
  std::vector<std::byte> table(change.clusters * header_.cluster_size());
  for (const auto& [index, value] : change.entries) store_be(&table[index * 8], value);
  if (const int error = file_->write_bytes(change.offset, table); error != 0) return error;
  if (const int error = file_->sync(); error != 0) return error;
  std::array<std::byte, 12> place{};
  store_be(&place[0], change.offset);
  store_be(&place[8], change.clusters);
  return file_->write_bytes(kRefcountTableOffsetAt, place);
}

int Qcow2Image::write_batch(Batch& batch) {
  if (batch.empty()) return file_->sync();
  const bool lazy = (header_.compatible_features & kLazyRefcounts) != 0;
  const bool mark = batch.marked && (!batch.refcounts.empty() || batch.refcount_table_changed);
  int error = mark ? write_dirty_bit(true) : 0;
  // What nothing refers to yet; with it, the sync covers the data that the tables below will refer to.
  if (error == 0) error = write_copies(batch.new_tables);
  if (error == 0 && !batch.marked) error = write_copies(batch.refcounts);
  if (error == 0) error = file_->sync();
  if (error == 0 && batch.marked) error = write_copies(batch.refcounts);
  if (error == 0 && batch.refcount_table_changed) {
    error = write_refcount_table(batch.refcount_table);
    if (error == 0 && !batch.marked) error = file_->sync();
  }
  if (error == 0) error = write_copies(batch.tables);
  for (const auto& [index, value] : batch.l1) {
    std::array<std::byte, 8> bytes{};
    store_be(bytes.data(), value);
    if (error == 0) error = file_->write_bytes(header_.l1_table_offset + index * 8, bytes);
  }
  if (error == 0 && (mark || !batch.tables.empty() || !batch.l1.empty())) error = file_->sync();
  const bool keep = lazy || options_.for_check;  // who repairs says when it is clean
  return error == 0 && mark && !keep ? write_dirty_bit(false) : error;
}

void Qcow2Image::end_batch(Batch& batch, bool written) {
  l2_.end_write(batch.new_tables, written);
  l2_.end_write(batch.tables, written);
  refcounts_.blocks().end_write(batch.refcounts, written);
  if (batch.refcount_table_changed) refcounts_.end_table_write(batch.refcount_table, written);
  if (!written) {
    for (const auto& [index, value] : batch.l1) changed_l1_.insert(index);
    frees_.insert(frees_.end(), batch.frees.begin(), batch.frees.end());
    batch.frees.clear();
  } else if (batch.refcount_table.moved) {
    header_.refcount_table_offset = batch.refcount_table.offset;
    header_.refcount_table_clusters = batch.refcount_table.clusters;
    for (std::uint32_t i = 0; i < batch.refcount_table.old_clusters; ++i) {
      batch.frees.push_back({batch.refcount_table.old_offset + i * header_.cluster_size()});
    }
  }
}

/// Gives the space of discarded clusters back to the host, while nobody can have them yet. Nothing depends on it.
void Qcow2Image::punch_holes(std::vector<Free>& frees) {
  std::ranges::sort(frees, {}, &Free::offset);
  const std::uint64_t size = header_.cluster_size();
  for (std::size_t i = 0; i < frees.size();) {
    std::size_t end = i + 1;
    while (end < frees.size() && frees[end].punch && frees[end].offset == frees[end - 1].offset + size) ++end;
    if (frees[i].punch) file_->punch_hole(frees[i].offset, (end - i) * size);
    i = frees[i].punch ? end : i + 1;
  }
}

/// The file refers to these no more: they may be used again.
int Qcow2Image::apply_frees(const std::vector<Free>& frees) {
  std::vector<TableCache::Copy> copies;
  {
    const std::lock_guard guard(meta_);
    for (const Free& free : frees) {
      const std::uint64_t cluster = free.offset >> header_.cluster_bits;
      if (!free.decremented && refcounts_.decrement(cluster) != 0) continue;
      refcounts_.release(cluster);
      std::uint64_t left = 0;
      if (refcounts_.get(cluster, left) == 0 && left == 0) {
        l2_.forget(free.offset, header_.cluster_size());
        refcounts_.blocks().forget(free.offset, header_.cluster_size());
      }
    }
    if (std::ranges::all_of(frees, &Free::decremented)) return 0;
    copies = refcounts_.blocks().begin_write();
  }
  // Without a sync: until one happens, these clusters are leaked if the power fails, no more.
  const int error = write_copies(copies);
  const std::lock_guard guard(meta_);
  refcounts_.blocks().end_write(copies, error == 0);
  return error;
}

/// Keeps the tables' memory bounded: what is dirty cannot be dropped.
int Qcow2Image::make_room() {
  {
    const std::lock_guard guard(meta_);
    const bool full =
        l2_.dirty_bytes() > l2_.limit() / 2 || refcounts_.blocks().dirty_bytes() > refcounts_.blocks().limit() / 2;
    if (!full) return 0;
  }
  return commit();
}

}  // namespace doppel::storage::qcow2
