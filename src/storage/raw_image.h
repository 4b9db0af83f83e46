#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "storage/image.h"
#include "storage/sync_state.h"

namespace doppel::storage {

/// A file whose bytes are the disk's. A size that is no multiple of 512 is rounded up; the rest reads as zeros.
class RawImage final : public Image {
 public:
  /// `guard_header`: refuse (EPERM) writes that would make the file look like another format, which a later user who
  /// lets the format be guessed would fall for.
  RawImage(std::shared_ptr<File> file, bool read_only, bool guard_header);

  const char* format() const override { return "raw"; }
  const std::string& name() const override { return file_->name(); }
  std::uint64_t size() const override { return size_; }
  bool read_only() const override { return read_only_; }
  std::uint64_t cluster_size() const override { return 1; }

  int read(std::uint64_t offset, Buffers into) override { return file_->read(offset, into); }
  int write(std::uint64_t offset, Buffers from) override;
  int write_zeroes(std::uint64_t offset, std::uint64_t length, bool may_unmap) override;
  int discard(std::uint64_t offset, std::uint64_t length) override;
  int flush() override;
  int keep() override { return file_->keep(); }
  int extent(std::uint64_t offset, std::uint64_t length, Extent& extent) override;
  bool locate(bool for_write, std::uint64_t offset, std::uint64_t length, Located& located) override;
  bool is_flushed() const override { return state_.is_synced(); }
  void note_written() override { state_.note_written(); }

  Result<void> freeze() override;
  Result<void> thaw() override;

  File& file() { return *file_; }
  /// Grows or shrinks file and disk; `size` a multiple of 512.
  int resize(std::uint64_t size);

 private:
  std::shared_ptr<File> file_;
  std::atomic<std::uint64_t> size_;
  std::atomic<bool> read_only_;
  bool guard_header_;
  SyncState state_;
};

}  // namespace doppel::storage
