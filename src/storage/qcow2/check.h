#pragma once

#include <cstdint>

#include "base/result.h"
#include "storage/progress.h"
#include "storage/qcow2/image.h"

namespace doppel::storage::qcow2 {

enum class Repair : std::uint8_t { None, Leaks, All };

/// What check_image found, counted as qemu-img check does.
struct CheckResult {
  std::uint64_t corruptions = 0;
  std::uint64_t corruptions_fixed = 0;
  std::uint64_t leaks = 0;
  std::uint64_t leaks_fixed = 0;
  std::uint64_t check_errors = 0;  ///< what could not be examined
  std::uint64_t total_clusters = 0;
  std::uint64_t allocated_clusters = 0;
  std::uint64_t compressed_clusters = 0;
  std::uint64_t fragmented_clusters = 0;
  std::uint64_t image_end_offset = 0;
  std::vector<std::string> messages;  ///< the first of them
};

/// Counts what every table refers to and compares that with the refcounts; with `repair`, makes them agree. Nothing
/// else may use the image meanwhile. The result tells what was found before the repair, and what of that was fixed.
Result<CheckResult> check_image(Qcow2Image& image, Repair repair, const Progress& progress = {});

}  // namespace doppel::storage::qcow2
