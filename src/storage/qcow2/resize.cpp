#include <fmt/format.h>

#include <array>
#include <cerrno>

#include "base/system_error.h"
#include "storage/qcow2/image.h"

namespace doppel::storage::qcow2 {
namespace {

constexpr std::uint64_t kSizeAt = 24;
constexpr std::uint64_t kL1SizeAt = 36;

}  // namespace

Result<void> Qcow2Image::reload() {
  auto header = parse_header(*file_);
  if (!header) return header.error();
  const std::lock_guard guard(meta_);
  l2_.clear();
  changed_l1_.clear();
  unpacked_.clear();
  header_ = *header;
  size_ = header_.size;
  return load();
}

Result<void> Qcow2Image::resize(std::uint64_t size) {
  const auto failed = [this](int error) { return system_error("cannot resize " + name(), error); };
  if (options_.read_only) return failed(EROFS);
  if (header_.nb_snapshots != 0 && (size < size_ || header_.version == 2)) {
    return Error{
        fmt::format("{} holds {} internal snapshots, so it cannot be resized like this", name(), header_.nb_snapshots)};
  }
  const std::uint64_t entries = header_.l1_entries_for(size);
  if (entries * 8 > kMaxL1Bytes) {
    return Error{fmt::format("{} cannot be as large as {} bytes with clusters of {} bytes; use larger clusters", name(),
                             size, header_.cluster_size())};
  }
  const std::uint64_t mask = header_.cluster_size() - 1;
  if (size < size_) {
    const std::uint64_t begin = (size + mask) & ~mask;
    if (begin < size_) {
      if (const int error = unmap(begin, size_ - begin); error != 0) return failed(error);
    }
  }
  const auto hold = ranges_.acquire(0, ~std::uint64_t{0}, RangeLock::Mode::Exclusive);
  // What lies behind the smaller end in its cluster must be zeros when the disk grows, now or later: QEMU would show
  // it.
  const std::uint64_t tail = std::min(size, size_.load());
  const std::uint64_t tail_end = std::min(std::max(size, size_.load()), (tail + mask) & ~mask);
  if (tail < tail_end) {
    if (auto cleared = clear_tail(tail, tail_end); !cleared) return cleared;
  }
  if (entries > l1_.size()) {
    if (auto grown = grow_l1(entries); !grown) return grown;
  }
  if (const int error = hide_backing(size); error != 0) return failed(error);
  if (const int error = commit(); error != 0) return failed(error);
  std::array<std::byte, 8> field{};
  store_be(field.data(), size);
  int error = file_->write_bytes(kSizeAt, field);
  if (error == 0) error = file_->sync();
  if (error != 0) return failed(error);
  {
    const std::lock_guard guard(meta_);
    header_.size = size;
    size_ = size;
  }
  state_.note_written();
  if (const int failure = commit(); failure != 0) return failed(failure);
  return {};
}

/// Moves the L1 table to where there is room for `entries`.
Result<void> Qcow2Image::grow_l1(std::uint64_t entries) {
  const auto failed = [this](int error) { return system_error("cannot resize " + name(), error); };
  const std::uint64_t old_offset = header_.l1_table_offset;
  const std::uint64_t old_clusters = header_.clusters_for(l1_.size() * 8);
  std::uint64_t new_offset = 0;
  {
    const std::lock_guard guard(meta_);
    if (const int error = refcounts_.allocate_adjacent(header_.clusters_for(entries * 8), new_offset); error != 0) {
      return failed(error);
    }
  }
  state_.note_written();
  if (const int error = commit(); error != 0) return failed(error);
  std::vector<std::byte> table(header_.clusters_for(entries * 8) << header_.cluster_bits);
  for (std::size_t i = 0; i < l1_.size(); ++i) store_be(&table[i * 8], l1_[i]);
  int error = file_->write_bytes(new_offset, table);
  if (error == 0) error = file_->sync();
  if (error != 0) return failed(error);
  std::array<std::byte, 12> fields{};
  store_be(&fields[0], static_cast<std::uint32_t>(entries));
  store_be(&fields[4], new_offset);
  error = file_->write_bytes(kL1SizeAt, fields);
  if (error == 0) error = file_->sync();
  if (error != 0) return failed(error);
  const std::lock_guard guard(meta_);
  l1_.resize(entries);
  header_.l1_size = static_cast<std::uint32_t>(entries);
  header_.l1_table_offset = new_offset;
  for (std::uint64_t i = 0; i < old_clusters; ++i) frees_.push_back({old_offset + (i << header_.cluster_bits)});
  state_.note_written();
  return {};
}

/// What the backing image has behind this disk's end was never part of it: a disk that grows to `size` has zeros there.
int Qcow2Image::hide_backing(std::uint64_t size) {
  const std::shared_ptr<Image> backing = this->backing();
  if (!backing) return 0;
  const std::uint64_t mask = header_.cluster_size() - 1;
  const std::uint64_t end = (std::min(size, backing->size()) + mask) & ~mask;
  for (std::uint64_t at = (size_ + mask) & ~mask; at < end;) {
    const std::uint64_t next = std::min(end, (at / kZeroStep + 1) * kZeroStep);
    if (const int error = make_room(); error != 0) return error;
    if (const int error = make_zero(at, next - at, Zeroing::Unmap); error != 0) return error;
    at = next;
  }
  return 0;
}

/// Makes what [begin, end), inside one cluster, shows of data or backing image zeros, whatever the disk's size.
Result<void> Qcow2Image::clear_tail(std::uint64_t begin, std::uint64_t end) {
  std::vector<Piece> pieces;
  int error = collect(begin, end - begin, pieces);
  const std::shared_ptr<Image> backing = this->backing();
  for (const Piece& piece : pieces) {
    const bool shows_nothing = piece.kind == Extent::Kind::Zero || (piece.kind == Extent::Kind::Unallocated &&
                                                                    (!backing || piece.offset >= backing->size()));
    if (error != 0 || shows_nothing) continue;
    const std::vector<std::byte> zeroes(piece.length);
    const iovec buffer = as_iovec(zeroes);
    error = write_mapping(piece.offset, {&buffer, 1});
  }
  state_.note_written();
  if (error != 0) return system_error("cannot resize " + name(), error);
  return {};
}

}  // namespace doppel::storage::qcow2
