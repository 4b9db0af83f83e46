#pragma once

#include <cstddef>
#include <span>

#include "base/result.h"

namespace doppel {

/// Owns a range of mapped address space and unmaps it.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  /// Zeroed private memory, committed on first touch (MAP_NORESERVE). `size` is rounded up to whole pages.
  static Result<Mapping> anonymous(std::size_t size);

  /// `fd` from `offset`, shared (writes reach the file) or private (copy-on-write).
  enum class Sharing { Shared, Private };
  static Result<Mapping> file(int fd, std::size_t size, std::size_t offset, Sharing sharing);
  /// The same, shared from its beginning, at an address that is a multiple of `alignment`, a power of two of at least a
  /// page: huge pages of the file can be mapped as such then.
  static Result<Mapping> aligned_file(int fd, std::size_t size, std::size_t alignment);

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::span<std::byte> bytes() const { return {data_, size_}; }

 private:
  Mapping(std::byte* data, std::size_t size) : data_(data), size_(size) {}

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace doppel
