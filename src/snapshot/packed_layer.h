#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/result.h"

/// A layer of RAM that is kept compressed: instead of its file PATH there is PATH.zst, a zstd frame in which each page
/// that is in the layer and not zero is its number (u64, little-endian) and its 4096 bytes, in ascending order, and
/// 2^64 - 1 is the end. One of the two files is whole at any time.
namespace doppel::snapshot {

std::string packed_name(const std::string& path);

/// Puts the packed file in the place of the layer. `sums` says which pages are in it.
Result<void> pack_layer(const std::string& path, std::span<const std::byte> sums, std::uint64_t memory_bytes,
                        const std::function<void(double done)>& progress);
/// The reverse; nothing where the layer is not packed. The packed file is hostile.
Result<void> unpack_layer(const std::string& path, std::uint64_t memory_bytes);

}  // namespace doppel::snapshot
