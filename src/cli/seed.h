#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "cli/run_options.h"
#include "machine/config.h"

namespace doppel::cli {

/// A read-only disk with these files in its root: ISO 9660 with Rock Ridge names.
std::vector<std::byte> make_iso_image(const std::string& label,
                                      const std::vector<std::pair<std::string, std::string>>& files);

/// What --user-data, --ssh-key and --hostname tell a guest that has cloud-init: a disk called "cidata", of its data
/// source NoCloud. Nothing when none of them was given.
Result<std::optional<machine::DiskConfig>> make_seed(const RunOptions& options);

}  // namespace doppel::cli
