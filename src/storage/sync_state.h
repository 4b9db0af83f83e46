#pragma once

#include <atomic>
#include <cstdint>

#include "storage/file.h"

namespace doppel::storage {

/// Which writes a sync has covered, so that a flush with nothing new costs nothing. Thread-safe.
class SyncState {
 public:
  /// After each write.
  void note_written() { written_.fetch_add(1); }
  bool is_synced() const { return synced_.load() >= written_.load(); }

  /// What a sync that starts now will have covered, for complete().
  std::uint64_t begin() const { return written_.load(); }
  void complete(std::uint64_t covered) {
    std::uint64_t before = synced_.load();
    while (before < covered && !synced_.compare_exchange_weak(before, covered)) {
    }
  }

  /// Returns when all that was noted before is on the disk; 0 or an errno.
  int sync(File& file) {
    if (is_synced()) return 0;
    const std::uint64_t covered = begin();
    const int error = file.sync();
    if (error == 0) complete(covered);
    return error;
  }

 private:
  std::atomic<std::uint64_t> written_ = 0;
  std::atomic<std::uint64_t> synced_ = 0;
};

}  // namespace doppel::storage
