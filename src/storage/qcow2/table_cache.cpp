#include "storage/qcow2/table_cache.h"

namespace doppel::storage::qcow2 {

TableCache::Slice* TableCache::peek(std::uint64_t offset) {
  const auto found = slices_.find(offset / slice_size_ * slice_size_);
  if (found == slices_.end()) return nullptr;
  by_use_.splice(by_use_.begin(), by_use_, found->second->use);
  return found->second.get();
}

TableCache::Slice* TableCache::get(std::uint64_t offset, int& error) {
  if (Slice* const slice = peek(offset); slice != nullptr) return slice;
  Slice* const slice = insert(offset / slice_size_ * slice_size_);
  error = file_.read_bytes(slice->offset, slice->bytes);
  if (error == 0) return slice;
  forget(slice->offset, slice_size_);
  return nullptr;
}

TableCache::Slice* TableCache::create(std::uint64_t offset) {
  Slice* slice = peek(offset);
  if (slice == nullptr) slice = insert(offset / slice_size_ * slice_size_);
  slice->bytes.assign(slice_size_, std::byte{0});
  mark_dirty(*slice);
  return slice;
}

void TableCache::mark_dirty(Slice& slice) {
  if (!slice.dirty) ++dirty_;
  slice.dirty = true;
}

std::vector<TableCache::Copy> TableCache::begin_write() {
  std::vector<Copy> copies;
  if (dirty_ == 0) return copies;
  copies.reserve(dirty_);
  for (auto& [offset, slice] : slices_) {
    if (!slice->dirty) continue;
    copies.push_back({offset, slice->bytes});
    slice->dirty = false;
    slice->writing = true;
  }
  dirty_ = 0;
  return copies;
}

void TableCache::end_write(const std::vector<Copy>& copies, bool written) {
  for (const Copy& copy : copies) {
    const auto found = slices_.find(copy.offset);
    if (found == slices_.end()) continue;
    found->second->writing = false;
    if (!written) mark_dirty(*found->second);
  }
}

void TableCache::forget(std::uint64_t offset, std::uint64_t length) {
  for (std::uint64_t at = offset / slice_size_ * slice_size_; at < offset + length; at += slice_size_) {
    const auto found = slices_.find(at);
    if (found == slices_.end()) continue;
    if (found->second->dirty) --dirty_;
    by_use_.erase(found->second->use);
    slices_.erase(found);
  }
}

void TableCache::clear() {
  slices_.clear();
  by_use_.clear();
  dirty_ = 0;
}

TableCache::Slice* TableCache::insert(std::uint64_t offset) {
  evict();
  auto slice = std::make_unique<Slice>();
  slice->offset = offset;
  slice->bytes.resize(slice_size_);
  by_use_.push_front(slice.get());
  slice->use = by_use_.begin();
  Slice* const inserted = slice.get();
  slices_.emplace(offset, std::move(slice));
  return inserted;
}

void TableCache::evict() {
  // Looks at a few only: where most are dirty, a write is due soon anyway.
  constexpr int kTries = 32;
  auto at = by_use_.end();
  for (int tries = 0; tries < kTries && slices_.size() * slice_size_ >= limit_ && at != by_use_.begin(); ++tries) {
    --at;
    if ((*at)->dirty || (*at)->writing) continue;
    const std::uint64_t offset = (*at)->offset;
    at = by_use_.erase(at);
    slices_.erase(offset);
  }
}

}  // namespace doppel::storage::qcow2
