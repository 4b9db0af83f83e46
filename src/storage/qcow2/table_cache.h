#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "storage/file.h"

namespace doppel::storage::qcow2 {

/// Pieces ("slices") of the image's tables in memory, written back only when told: who writes them decides the order.
/// Bounded as far as slices are clean; keep the dirty ones few by writing them. Not thread-safe.
class TableCache {
 public:
  struct Slice {
    std::uint64_t offset;
    std::vector<std::byte> bytes;
    bool dirty = false;    ///< newer than the file
    bool writing = false;  ///< its bytes are on the way to the file
    std::list<Slice*>::iterator use;
  };
  /// A copy of a dirty slice, to be written without the owner's lock.
  struct Copy {
    std::uint64_t offset;
    std::vector<std::byte> bytes;
  };

  /// Slices are of `slice_size` bytes at multiples of that.
  TableCache(File& file, std::uint64_t slice_size, std::uint64_t limit)
      : file_(file), slice_size_(slice_size), limit_(limit) {}

  std::uint64_t slice_size() const { return slice_size_; }

  /// The slice that holds the byte at `offset`, read if need be. Valid until the next call of get() or create().
  /// `error` is set if the result is null.
  Slice* get(std::uint64_t offset, int& error);
  /// The slice if it is in memory.
  Slice* peek(std::uint64_t offset);
  /// A slice full of zeros that the file need not be read for; dirty.
  Slice* create(std::uint64_t offset);
  void mark_dirty(Slice& slice);
  std::uint64_t dirty_bytes() const { return dirty_ * slice_size_; }
  std::uint64_t limit() const { return limit_; }

  /// Takes copies of all dirty slices, which then count as being written.
  std::vector<Copy> begin_write();
  /// The copies have reached the file, or not: then they are dirty again.
  void end_write(const std::vector<Copy>& copies, bool written);
  /// [offset, offset + length) no longer holds a table.
  void forget(std::uint64_t offset, std::uint64_t length);
  /// Everything, dirty or not.
  void clear();

 private:
  Slice* insert(std::uint64_t offset);
  void evict();

  File& file_;
  const std::uint64_t slice_size_;
  const std::uint64_t limit_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Slice>> slices_;
  std::list<Slice*> by_use_;  ///< most recent first
  std::uint64_t dirty_ = 0;
};

}  // namespace doppel::storage::qcow2
