#pragma once

#include <cstdint>
#include <functional>

#include "base/result.h"
#include "storage/image.h"

namespace doppel::storage {

/// A run of a disk as its whole chain of images shows it.
struct ChainExtent {
  std::uint64_t start = 0;
  std::uint64_t length = 0;
  unsigned depth = 0;    ///< which image speaks: 0 is the top; if none, the last one asked
  bool present = false;  ///< some image speaks of it
  bool zero = false;     ///< reads as zeros
  bool data = false;     ///< there are bytes for it
  bool compressed = false;
  const File* file = nullptr;  ///< where the bytes are, if they are plain
  std::uint64_t file_offset = 0;
};

/// The run that begins at `offset`, at most `length` long.
Result<ChainExtent> chain_extent(Image& top, std::uint64_t offset, std::uint64_t length);

/// All of [0, size) in order, neighbours that are alike and adjacent joined.
Result<void> for_each_extent(Image& top, const std::function<Result<void>(const ChainExtent&)>& visit);

}  // namespace doppel::storage
