#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "storage/file.h"

namespace doppel::storage {

/// Whether the host's page cache stands between the image and the disk. `None` opens with O_DIRECT.
enum class CacheMode : std::uint8_t { Writeback, None };

struct HostFileOptions {
  bool read_only = false;
  CacheMode cache = CacheMode::Writeback;
  bool lock = true;     ///< refuse when another process writes it, or, for writing, uses it at all
  bool create = false;  ///< make the file; it must not exist
  bool kept = true;     ///< else it ends with its process, and sync() has nothing to do until keep()
};

/// A regular file or block device. With CacheMode::None, I/O that is aligned as the device wants goes past the cache;
/// the rest (metadata, odd buffers) goes through it, which Linux keeps coherent.
class HostFile final : public File {
 public:
  static Result<std::unique_ptr<HostFile>> open(const std::string& path, const HostFileOptions& options);
  /// A file that somebody else opened, for a process that may not open any; `create` has no meaning.
  /// `direct`: the same file under O_DIRECT, if there is to be no cache; without it, it is served through the cache.
  static Result<std::unique_ptr<HostFile>> adopt(UniqueFd fd, const std::string& path, const HostFileOptions& options,
                                                 UniqueFd direct = UniqueFd());

  const std::string& name() const override { return path_; }
  std::uint64_t size() const override;
  bool read_only() const override { return read_only_; }
  int read(std::uint64_t offset, Buffers into) override;
  int write(std::uint64_t offset, Buffers from) override;
  int sync() override;
  int keep() override;
  int punch_hole(std::uint64_t offset, std::uint64_t length) override;
  int write_zeroes(std::uint64_t offset, std::uint64_t length, bool may_unmap) override;
  int truncate(std::uint64_t size) override;
  int allocate(std::uint64_t offset, std::uint64_t length) override;
  FileExtent extent(std::uint64_t offset, std::uint64_t length) override;
  Result<void> share() override;
  Result<void> lock_for_writing() override;
  int descriptor(std::uint64_t offset, Buffers buffers) const override;
  bool cached() const override { return !direct_.valid(); }

  bool is_block_device() const { return block_device_; }

 private:
  HostFile() = default;
  Result<void> identify();
  void open_direct();
  void use_direct(UniqueFd direct);

  std::string path_;
  UniqueFd fd_;
  std::atomic<bool> kept_ = true;
  UniqueFd direct_;  ///< the same file under O_DIRECT
  std::uint64_t alignment_ = 1;
  bool read_only_ = false;
  bool block_device_ = false;
  bool locked_ = false;
  std::uint64_t block_device_size_ = 0;  ///< asked once: a jail may forbid to ask again
};

}  // namespace doppel::storage
