#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace doppel {

/// Owns a file descriptor and closes it. Empty is -1.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept;
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd();

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release();
  void reset();

 private:
  int fd_ = -1;
};

/// Opens `path` for reading; the error names the path and what the system said.
Result<UniqueFd> open_for_reading(const std::string& path);

/// The whole file. Directories, unreadable files and those longer than `limit` bytes are errors.
Result<std::vector<std::byte>> read_file(const std::string& path, std::size_t limit = std::size_t{4} << 30);

/// Writes all of `bytes`, retrying short writes and EINTR.
Result<void> write_all(int fd, std::span<const std::byte> bytes);

/// Replaces `path` as a whole: written aside, fsynced, renamed. A crash leaves the old file or the new one.
Result<void> write_file_atomically(const std::string& path, std::span<const std::byte> bytes);

}  // namespace doppel
