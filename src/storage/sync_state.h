#pragma once

#include <atomic>
#include <cstdint>

#include "storage/file.h"

namespace doppel::storage {

/// Which writes of a file a sync has covered, so that a flush with nothing new costs nothing. Thread-safe.
class SyncState {
 public:
  /// After each write.
  void note_written() { written_.fetch_add(1); }
  bool is_synced() const { return synced_.load() >= written_.load(); }

  /// Returns when all that was noted before is on the disk.
  int sync(File& file) {
    const std::uint64_t covered = written_.load();
    if (synced_.load() >= covered) return 0;
    if (const int error = file.sync(); error != 0) return error;
    std::uint64_t before = synced_.load();
    while (before < covered && !synced_.compare_exchange_weak(before, covered)) {
    }
    return 0;
  }

 private:
  std::atomic<std::uint64_t> written_ = 0;
  std::atomic<std::uint64_t> synced_ = 0;
};

}  // namespace doppel::storage
