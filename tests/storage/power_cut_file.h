#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "storage/file.h"

namespace doppel::test {

/// A file in memory that loses, at a power cut, any of the sectors written since the last sync.
class PowerCutFile : public storage::File {
 public:
  explicit PowerCutFile(std::vector<std::byte> contents = {}) : durable_(contents), current_(std::move(contents)) {}

  const std::string& name() const override { return name_; }
  std::uint64_t size() const override {
    const std::lock_guard guard(mutex_);
    return current_.size();
  }
  bool read_only() const override { return false; }

  int read(std::uint64_t offset, storage::Buffers into) override {
    const std::lock_guard guard(mutex_);
    for (const iovec& piece : into) {
      auto* const out = static_cast<std::byte*>(piece.iov_base);
      const std::uint64_t there =
          offset < current_.size() ? std::min<std::uint64_t>(piece.iov_len, current_.size() - offset) : 0;
      if (there != 0) std::memcpy(out, &current_[offset], there);
      std::fill(out + there, out + piece.iov_len, std::byte{0});
      offset += piece.iov_len;
    }
    return 0;
  }
  int write(std::uint64_t offset, storage::Buffers from) override {
    const std::lock_guard guard(mutex_);
    if (before_change) before_change();
    std::vector<std::byte> bytes(storage::total_size(from));
    storage::gather(from, bytes);
    apply(current_, offset, bytes);
    unsynced_.push_back({offset, std::move(bytes)});
    return 0;
  }
  int sync() override {
    const std::lock_guard guard(mutex_);
    if (before_change) before_change();
    durable_ = current_;
    unsynced_.clear();
    return 0;
  }
  int punch_hole(std::uint64_t offset, std::uint64_t length) override {
    {
      const std::lock_guard guard(mutex_);
      if (offset >= current_.size()) return 0;
      length = std::min(length, current_.size() - offset);
    }
    const std::vector<std::byte> zeroes(length);
    return write_bytes(offset, zeroes);
  }
  int write_zeroes(std::uint64_t offset, std::uint64_t length, bool) override {
    const std::vector<std::byte> zeroes(length);
    return write_bytes(offset, zeroes);
  }
  int truncate(std::uint64_t size) override {
    const std::lock_guard guard(mutex_);
    current_.resize(size);
    return 0;
  }
  int allocate(std::uint64_t, std::uint64_t) override { return 0; }
  storage::FileExtent extent(std::uint64_t, std::uint64_t length) override { return {length, true}; }
  int descriptor(std::uint64_t, storage::Buffers) const override { return -1; }
  bool cached() const override { return false; }

  /// What the disk holds if the power goes now.
  template <class Random>
  std::vector<std::byte> after_power_cut(Random& random) const {
    constexpr std::uint64_t kSector = 512;
    std::vector<std::byte> disk = durable_;
    const unsigned percent = std::array{0U, 10U, 50U, 90U, 100U}[random() % 5];
    for (const Write& write : unsynced_) {
      for (std::uint64_t at = 0; at < write.bytes.size();) {
        const std::uint64_t part = std::min(kSector - (write.offset + at) % kSector, write.bytes.size() - at);
        if (random() % 100 < percent) apply(disk, write.offset + at, std::span(write.bytes).subspan(at, part));
        at += part;
      }
    }
    return disk;
  }
  std::vector<std::byte> contents() const {
    const std::lock_guard guard(mutex_);
    return current_;
  }

  /// Called before each write and sync; may throw to stop the test there.
  std::function<void()> before_change;

 private:
  struct Write {
    std::uint64_t offset;
    std::vector<std::byte> bytes;
  };

  static void apply(std::vector<std::byte>& to, std::uint64_t offset, std::span<const std::byte> bytes) {
    if (to.size() < offset + bytes.size()) to.resize(offset + bytes.size());
    if (!bytes.empty()) std::memcpy(&to[offset], bytes.data(), bytes.size());
  }

  std::string name_ = "test disk";
  mutable std::mutex mutex_;
  std::vector<std::byte> durable_;
  std::vector<std::byte> current_;
  std::vector<Write> unsynced_;
};

}  // namespace doppel::test
