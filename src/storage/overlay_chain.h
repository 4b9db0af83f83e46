#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "storage/disk.h"
#include "storage/host_file.h"
#include "storage/image.h"
#include "storage/progress.h"

namespace doppel::storage {

/// The images behind a running disk: what snapshots need of it. One thread at a time uses it; the guest goes on
/// meanwhile but where it says otherwise. At every instant the files on the host are a consistent chain that shows the
/// disk.
class OverlayChain {
 public:
  /// The disk outlives it.
  explicit OverlayChain(Disk& disk) : disk_(disk) {}

  /// Top first.
  std::vector<std::shared_ptr<Image>> images() const;

  /// Puts a new, empty overlay at `path` (which must not exist) on top; what was the top is complete on the host's disk
  /// and is written no more. The guest is paused and its disk drained. If it fails, everything is as before.
  Result<void> snapshot(const std::string& path);
  /// The same with an overlay that was made before, by create_overlay, and whose file is handed in: for a process that
  /// may not open files.
  Result<void> snapshot(std::shared_ptr<File> overlay);
  /// Makes the overlay that snapshot() is to put on top of `top`, a file of `format` and `size` bytes.
  static Result<void> create_overlay(const std::string& path, const std::string& top, const std::string& format,
                                     std::uint64_t size);

  /// Merges images()[index], neither the top nor the last, into the image below it: afterwards the one above stands on
  /// that, and the file is no longer part of the chain. No other chain may stand on either of the two. If it fails or
  /// is interrupted, the chain is as before or as afterwards, and it can be tried again.
  Result<void> merge(std::size_t index, const Progress& progress = {});

 private:
  Disk& disk_;
};

}  // namespace doppel::storage
