#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace doppel::boot {

/// How a Linux kernel inside a bzImage can be compressed and we can unpack it. Bzip2 and LZO are Unknown: such kernels
/// unpack themselves.
enum class Compression : std::uint8_t { Unknown, None, Gzip, Xz, Lzma, Lz4, Zstd };

/// By the magic number at its start; None means that an ELF file lies there as it is.
Compression identify_compression(std::span<const std::byte> payload);

/// The most a payload may unpack to: a real kernel takes a tenth of it.
inline constexpr std::size_t kMaxUnpacked = std::size_t{512} << 20;

/// The unpacked kernel, an ELF file followed by relocations. Damaged input and output above `limit` are errors.
/// Bytes after the compressed stream (Linux appends the unpacked size) are ignored.
Result<std::vector<std::byte>> unpack_payload(std::span<const std::byte> payload, std::size_t limit = kMaxUnpacked);

}  // namespace doppel::boot
