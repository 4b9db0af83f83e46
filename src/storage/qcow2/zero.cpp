// Zeros, discards and preallocation: changes of the mapping without data.
#include <algorithm>
#include <array>
#include <cerrno>

#include "storage/qcow2/image.h"

namespace doppel::storage::qcow2 {
namespace {

alignas(4096) constexpr std::array<std::byte, 65536> kZeroes{};

/// `length` bytes of zeros to write.
std::vector<iovec> zeroes(std::uint64_t length) {
  std::vector<iovec> buffers;
  while (length > 0) {
    buffers.push_back(as_iovec(std::span(kZeroes).first(std::min<std::uint64_t>(length, kZeroes.size()))));
    length -= buffers.back().iov_len;
  }
  return buffers;
}

}  // namespace

/// Changes `entry` so that units [first, end) of the cluster read as zeros. False: data must be written instead.
bool Qcow2Image::zero_cluster(std::uint64_t cluster, unsigned first, unsigned end, Zeroing how, L2Entry& entry) {
  const unsigned units = header_.subclusters();
  const bool whole = first == 0 && end == units;
  const bool gone = how == Zeroing::Expose || !backing_ || (cluster << header_.cluster_bits) >= backing_->size();
  const std::uint64_t host = is_compressed(entry) ? 0 : host_offset(entry);
  if (!whole && is_compressed(entry)) return how == Zeroing::Discard;
  if (header_.version == 2 && how != Zeroing::Expose) {
    // There are no zero clusters: only what has nothing behind it can be given up.
    if (how == Zeroing::Discard && !gone) return true;
    if (!gone || (how == Zeroing::Keep && entry.word != 0)) return false;
  }
  const L2Entry old = entry;
  if (!header_.extended_l2()) {
    const bool keep = how == Zeroing::Keep && owns_cluster(old);
    if (!keep) release(old, true);
    entry.word = header_.version == 3 ? kZero : 0;
    if (keep) entry.word |= host | kCopied;
    if (!keep && gone) entry.word = 0;
    return true;
  }
  if (is_compressed(old)) entry = {};
  entry.bitmap &= ~(alloc_bits(first, end) | zero_bits(first, end));
  if (!gone || (how == Zeroing::Keep && host != 0)) entry.bitmap |= zero_bits(first, end);
  const bool empty = (entry.bitmap & alloc_bits(0, kSubclusters)) == 0;
  if (is_compressed(old) || (empty && how != Zeroing::Keep)) {
    release(old, true);
    entry.word = 0;
  }
  return true;
}

/// `not_done` gets the parts that need zeros to be written, among them the ends that fill no unit.
int Qcow2Image::zero_units(std::uint64_t offset, std::uint64_t length, Zeroing how, std::vector<Piece>& not_done) {
  const std::uint64_t unit_size = header_.subcluster_size();
  const std::uint64_t end = offset + length;
  // The disk's end may lie inside a unit, of which the rest does not matter.
  const std::uint64_t units_end =
      end == size_ ? (end + unit_size - 1) / unit_size * unit_size : end / unit_size * unit_size;
  const std::uint64_t units_begin = std::min((offset + unit_size - 1) / unit_size * unit_size, units_end);
  const auto leave = [&](std::uint64_t from, std::uint64_t to) {
    to = std::min(to, end);
    if (from < to) not_done.push_back({Extent::Kind::Data, from, to - from});
  };
  if (units_begin >= units_end) {
    leave(offset, end);
    return 0;
  }
  leave(offset, units_begin);
  const std::lock_guard guard(meta_);
  for (std::uint64_t at = units_begin; at < units_end;) {
    const std::uint64_t cluster = at >> header_.cluster_bits;
    const std::uint64_t base = cluster << header_.cluster_bits;
    const std::uint64_t next = std::min(units_end, base + header_.cluster_size());
    const auto first = static_cast<unsigned>((at - base) / unit_size);
    const auto last = static_cast<unsigned>((next - base) / unit_size);
    L2Entry entry;
    if (const int error = lookup(cluster, entry); error != 0) return error;
    const L2Entry old = entry;
    const std::size_t frees = frees_.size();
    if (!zero_cluster(cluster, first, last, how, entry)) {
      leave(at, next);
    } else if (entry.word != old.word || entry.bitmap != old.bitmap) {
      if (const int error = store(cluster, entry); error != 0) {
        frees_.resize(frees);
        return error;
      }
    }
    at = next;
  }
  leave(units_end, end);
  return 0;
}

/// Zeros without a mapping where possible, else zeros as data. The range is the caller's alone (ranges_).
int Qcow2Image::make_zero(std::uint64_t offset, std::uint64_t length, Zeroing how) {
  std::vector<Piece> not_done;
  int error = zero_units(offset, length, how, not_done);
  for (const Piece& piece : not_done) {
    std::vector<Piece> there;
    if (error == 0) error = collect(piece.offset, piece.length, there);
    for (const Piece& part : there) {
      const bool is_zero = part.kind == Extent::Kind::Zero || (part.kind == Extent::Kind::Unallocated && !backing());
      if (error == 0 && !is_zero) error = write_mapping(part.offset, zeroes(part.length));
    }
  }
  state_.note_written();
  return error;
}

int Qcow2Image::write_zeroes(std::uint64_t offset, std::uint64_t length, bool may_unmap) {
  if (options_.read_only) return EROFS;
  const std::uint64_t mask = header_.cluster_size() - 1;
  for (const std::uint64_t end = offset + length; offset < end;) {
    const std::uint64_t next = std::min(end, (offset / kZeroStep + 1) * kZeroStep);
    if (const int error = make_room(); error != 0) return error;
    const auto hold = ranges_.acquire(offset & ~mask, (next + mask) & ~mask, RangeLock::Mode::Exclusive);
    const int error = make_zero(offset, next - offset, may_unmap ? Zeroing::Unmap : Zeroing::Keep);
    if (error != 0) return error;
    offset = next;
  }
  return 0;
}

int Qcow2Image::discard(std::uint64_t offset, std::uint64_t length) {
  if (options_.read_only) return EROFS;
  const std::uint64_t mask = header_.cluster_size() - 1;
  for (const std::uint64_t end = offset + length; offset < end;) {
    const std::uint64_t next = std::min(end, (offset / kZeroStep + 1) * kZeroStep);
    if (const int error = make_room(); error != 0) return error;
    const auto hold = ranges_.acquire(offset & ~mask, (next + mask) & ~mask, RangeLock::Mode::Exclusive);
    std::vector<Piece> not_done;
    const int error = zero_units(offset, next - offset, Zeroing::Discard, not_done);
    state_.note_written();
    if (error != 0) return error;
    offset = next;
  }
  return 0;
}

int Qcow2Image::unmap(std::uint64_t offset, std::uint64_t length) {
  if (options_.read_only) return EROFS;
  if (const int error = make_room(); error != 0) return error;
  const std::uint64_t mask = header_.cluster_size() - 1;
  const auto hold = ranges_.acquire(offset & ~mask, (offset + length + mask) & ~mask, RangeLock::Mode::Exclusive);
  std::vector<Piece> not_done;
  const int error = zero_units(offset, length, Zeroing::Expose, not_done);
  state_.note_written();
  return error;
}

int Qcow2Image::preallocate_metadata() {
  const std::uint64_t clusters = header_.clusters_for(size_);
  for (std::uint64_t cluster = 0; cluster < clusters;) {
    if (const int error = make_room(); error != 0) return error;
    const std::lock_guard guard(meta_);
    std::uint64_t host = 0;
    std::uint64_t count = 0;
    if (const int error = refcounts_.allocate(std::min(clusters - cluster, header_.l2_entries()), host, count);
        error != 0) {
      return error;
    }
    for (std::uint64_t n = 0; n < count; ++n) {
      const L2Entry entry{(host + (n << header_.cluster_bits)) | kCopied,
                          header_.extended_l2() ? alloc_bits(0, kSubclusters) : 0};
      if (const int error = store(cluster + n, entry); error != 0) return error;
    }
    cluster += count;
    // What was never written there reads as zeros only if the file reaches that far.
    const std::uint64_t end = host + (count << header_.cluster_bits);
    if (file_->size() < end) {
      if (const int error = file_->truncate(end); error != 0) return error;
    }
    state_.note_written();
  }
  return 0;
}

}  // namespace doppel::storage::qcow2
