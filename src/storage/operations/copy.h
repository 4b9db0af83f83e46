#pragma once

#include <cstdint>

#include "base/result.h"
#include "storage/image.h"
#include "storage/progress.h"

namespace doppel::storage {

struct CopyOptions {
  bool compress = false;             ///< to a qcow2 image
  std::uint64_t sparse_size = 4096;  ///< runs of zeros this long are left out; 0: none is
  /// The target shows something already (a block device, a backing image): zeros must be written too, and what it shows
  /// already need not. Else it is all zeros.
  bool target_has_contents = false;
};

/// Copies what the chain of `source` shows into `target`, which is at least as large. Several threads read and write.
Result<void> copy_image(Image& source, Image& target, const CopyOptions& options, const Progress& progress = {});

}  // namespace doppel::storage
