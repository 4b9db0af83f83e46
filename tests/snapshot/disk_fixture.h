#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "snapshot/keeper.h"
#include "snapshot/store_fixture.h"
#include "storage/open.h"
#include "storage/overlay_chain.h"

namespace doppel::test {

inline constexpr std::uint64_t kDiskBytes = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kBlock = 4096;

/// A block full of one value, and back (-1: the block is not of one value, or cannot be read).
inline int put_block(storage::Image& image, std::uint64_t block, unsigned char value) {
  std::vector<std::byte> bytes(kBlock, std::byte{value});
  const iovec from = storage::as_iovec(std::span<const std::byte>(bytes));
  return image.write(block * kBlock, {&from, 1});
}
inline int get_block(storage::Image& image, std::uint64_t block) {
  std::vector<std::byte> bytes(kBlock);
  const iovec into = storage::as_iovec(std::span<std::byte>(bytes));
  if (image.read(block * kBlock, {&into, 1}) != 0) return -1;
  const auto same = [&](std::byte byte) { return byte == bytes.front(); };
  return std::ranges::all_of(bytes, same) ? std::to_integer<int>(bytes.front()) : -1;
}

/// A machine "web" as far as its one disk goes: opened, written, saved as Keeper and Snapshotter do it.
class DiskOfMachine {
 public:
  DiskOfMachine(const snapshot::Store& store, const std::string& path, bool copy_on_write = false) : store_(store) {
    machine::DiskConfig config;
    config.path = path;
    config.snapshot = copy_on_write;
    open({config}, std::nullopt, false);
  }
  DiskOfMachine(const snapshot::Store& store, const snapshot::Manifest& from, bool keep) : store_(store) {
    machine::DiskConfig config;
    config.options.cache = storage::CacheMode::Writeback;
    open({config}, from, keep);
  }

  const std::string& problem() const { return problem_; }
  void write(std::uint64_t block, unsigned char value) { EXPECT_TRUE(try_write(block, value)); }
  bool try_write(std::uint64_t block, unsigned char value) { return put_block(*disk_->image(), block, value) == 0; }
  int read(std::uint64_t block) { return disk_ == nullptr ? -1 : get_block(*disk_->image(), block); }
  void flush() { EXPECT_EQ(disk_->image()->flush(), 0); }
  const snapshot::DiskPlace& place() const { return prepared_->places[0]; }
  const std::string& path() const { return path_; }

  /// Moves to the next layer, and says what a draft is to have.
  Result<snapshot::Manifest::Disk> freeze(const std::string& draft) {
    snapshot::DiskPlace& place = prepared_->places[0];
    const Result<std::string> next = store_.disks().make_next(place);
    if (!next) return next.error();
    auto file = storage::HostFile::open(place.directory + "/" + *next, {});
    if (!file) return file.error();
    const auto frozen = storage::OverlayChain(*disk_).snapshot(std::shared_ptr<storage::File>(*std::move(file)));
    if (!frozen) return frozen.error();
    const snapshot::DiskPlace was = place;
    place.advance(*next);
    return store_.disks().give(was, draft);
  }

 private:
  void open(std::vector<machine::DiskConfig> disks, const std::optional<snapshot::Manifest>& from, bool keep) {
    const std::string directory = from ? store_.directory(from->machine, from->tag) : std::string();
    Result<snapshot::PreparedDisks> prepared = store_.disks().prepare(disks, from, directory, keep);
    if (!prepared) {
      problem_ = prepared.error().message;
      return;
    }
    prepared_.emplace(*std::move(prepared));
    path_ = disks[0].path;
    Result<std::unique_ptr<storage::Disk>> disk = storage::open_disk(disks[0].path, disks[0].options);
    prepared_->opened();
    if (disk) {
      disk_ = *std::move(disk);
    } else {
      problem_ = disk.error().message;
    }
  }

  const snapshot::Store& store_;
  std::optional<snapshot::PreparedDisks> prepared_;
  std::unique_ptr<storage::Disk> disk_;
  std::string path_, problem_;
};

}  // namespace doppel::test
