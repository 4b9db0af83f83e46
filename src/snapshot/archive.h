#pragma once

#include <functional>
#include <string>

#include "base/result.h"
#include "snapshot/store.h"

/// A snapshot as one file: a zstd frame with a checksum, in which are, all numbers little-endian,
///
///     "doppel archive 1\n" | u32 length | manifest | clock | components | pages … | u64 2^64 - 1
///
/// and a page is its number as u64 and its 4096 bytes. Layers are one, zero pages are left out. A machine with disks is
/// "doppel archive 2\n", and behind the pages each disk is its size as u64, pieces, and the same end: a piece is its
/// offset as u64 and 65536 bytes (fewer at the disk's end), those all zero left out.
namespace doppel::snapshot {

using ArchiveProgress = std::function<void(double done)>;

/// Writes beside `path` and renames. Finds damage in the snapshot.
Result<void> export_snapshot(const Store& store, const Manifest& manifest, const std::string& path,
                             const ArchiveProgress& progress = {});

/// Puts what a file holds into the store, as `name` (a machine, and a tag if there is one) or else under the names that
/// it had. The file is hostile. Its disks stand on nothing of this host's.
Result<Reference> import_snapshot(const Store& store, const std::string& path, const std::optional<Reference>& name);

}  // namespace doppel::snapshot
