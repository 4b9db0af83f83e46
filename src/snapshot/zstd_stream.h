#pragma once

#include <zstd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/bits.h"
#include "base/result.h"

/// Files that are one zstd frame with a checksum, written and read from their beginning to their end.
namespace doppel::snapshot {

class Compressor {
 public:
  /// The descriptor stays the caller's.
  explicit Compressor(int fd);

  Result<void> put(std::span<const std::byte> bytes) { return run(bytes, ZSTD_e_continue); }
  template <class T>
  Result<void> number(T value) {
    std::array<std::byte, sizeof(T)> bytes{};
    store_le(bytes.data(), value);
    return put(bytes);
  }
  Result<void> finish() { return run({}, ZSTD_e_end); }

 private:
  Result<void> run(std::span<const std::byte> bytes, ZSTD_EndDirective directive);

  const int fd_;
  std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context_;
  std::vector<std::byte> out_;
};

/// The file is hostile.
class Decompressor {
 public:
  /// The descriptor stays the caller's.
  explicit Decompressor(int fd);

  Result<void> get(std::span<std::byte> bytes);
  template <class T>
  Result<T> number() {
    std::array<std::byte, sizeof(T)> bytes{};
    if (Result<void> got = get(bytes); !got) return got.error();
    return load_le<T>(bytes.data());
  }
  Result<std::vector<std::byte>> block(std::uint64_t length);
  /// The frame's end, with its checksum.
  Result<void> finish();

 private:
  Result<void> step(ZSTD_outBuffer& out);

  const int fd_;
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context_;
  std::vector<std::byte> buffer_;
  ZSTD_inBuffer in_{nullptr, 0, 0};
  bool drained_ = false, ended_ = false;
};

}  // namespace doppel::snapshot
