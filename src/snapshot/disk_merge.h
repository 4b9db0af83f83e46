#pragma once

#include <string>

#include "base/result.h"
#include "snapshot/disk_store.h"

namespace doppel::snapshot {

/// Merges layers that no snapshot needs apart, and brings a file of the user's up to date again when no snapshot stands
/// on it and no machine uses it. For when snapshots have been deleted; machines may run.
///
/// Two layers become a new file that then takes the upper one's name in every directory, one after the other, before
/// the lower one's name goes: whatever is interrupted, each directory is a chain that shows what it showed before.
Result<void> merge_layers(const DiskStore& disks, const std::string& snapshots);

}  // namespace doppel::snapshot
