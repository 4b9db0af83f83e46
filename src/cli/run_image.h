#pragma once

#include <optional>

#include "base/result.h"
#include "cli/run_options.h"

namespace doppel::cli {

/// A run of an image of the store (image_store.h), in the words of a run of a kernel.
struct ImageRun {
  RunOptions options;  ///< without -c
  bool keeps = false;  ///< what the machine writes is there at its next start
};

/// If `options` name an image: what is to be run. Makes the disk of a machine that keeps what it writes, if it has none
/// yet. Nothing: they name a kernel, or nothing.
Result<std::optional<ImageRun>> resolve_image(const RunOptions& options);

}  // namespace doppel::cli
