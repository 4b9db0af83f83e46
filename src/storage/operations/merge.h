#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "storage/image.h"
#include "storage/progress.h"
#include "storage/qcow2/image.h"

/// Moving contents between the images of a chain. All of it is safe to interrupt: what an image showed before, it shows
/// at every moment.
namespace doppel::storage {

/// Writes what the images from `top` down to, not including, `base` say into `base`, which grows if it is shorter, and
/// flushes it. `top` shows the same before, during and after.
Result<void> merge_into(Image& top, Image& base, const Progress& progress = {});

/// Gives up all clusters of `top`: its backing image shows through.
Result<void> make_empty(qcow2::Qcow2Image& top, const Progress& progress = {});

/// Writes into `top` whatever would change if `new_backing` (may be null: none) replaced what is behind it, and
/// flushes.
Result<void> prepare_rebase(qcow2::Qcow2Image& top, const std::shared_ptr<Image>& new_backing,
                            const Progress& progress = {});

/// Grows or shrinks a disk of either format.
Result<void> resize_image(Image& image, std::uint64_t size);

}  // namespace doppel::storage
