#include <algorithm>
#include <cerrno>

#include "storage/qcow2/image.h"

namespace doppel::storage::qcow2 {
namespace {

/// How much of one request is mapped and written at a time.
constexpr std::uint64_t kStep = 4U << 20;

}  // namespace

/// Writes to the file, adjacent ones joined.
struct Qcow2Image::Writes {
  struct Run {
    std::uint64_t host;
    std::uint64_t length;
    std::vector<iovec> buffers;
  };
  std::vector<Run> runs;
  std::vector<std::vector<std::byte>> copies;  ///< owns what does not come from the request

  void add(std::uint64_t host, Buffers buffers) {
    const std::uint64_t length = total_size(buffers);
    if (runs.empty() || runs.back().host + runs.back().length != host) runs.push_back({host, 0, {}});
    runs.back().length += length;
    runs.back().buffers.insert(runs.back().buffers.end(), buffers.begin(), buffers.end());
  }
};

int Qcow2Image::write(std::uint64_t offset, Buffers from) {
  if (options_.read_only) return EROFS;
  const std::uint64_t length = total_size(from);
  for (std::uint64_t at = 0; at < length;) {
    const std::uint64_t begin = offset + at;
    const std::uint64_t end = std::min(offset + length, (begin / kStep + 1) * kStep);
    const std::vector<iovec> part = slice(from, at, end - begin);
    bool done = false;
    int error = write_in_place(begin, part, done);
    if (error == 0 && !done) error = make_room();
    if (error == 0 && !done) {
      const std::uint64_t mask = header_.cluster_size() - 1;
      const auto hold = ranges_.acquire(begin & ~mask, (end + mask) & ~mask, RangeLock::Mode::Exclusive);
      error = write_mapping(begin, part);
    }
    state_.note_written();
    if (error != 0) return error;
    at += end - begin;
  }
  return 0;
}

int Qcow2Image::write_in_place(std::uint64_t offset, Buffers from, bool& done) {
  const std::uint64_t end = offset + total_size(from);
  const auto hold = ranges_.acquire(offset, end, RangeLock::Mode::Shared);
  std::vector<Piece> pieces;
  {
    const std::lock_guard guard(meta_);
    for (std::uint64_t at = offset; at < end;) {
      const std::uint64_t cluster = at >> header_.cluster_bits;
      const std::uint64_t next = std::min(end, (cluster + 1) << header_.cluster_bits);
      L2Entry entry;
      if (const int error = lookup(cluster, entry); error != 0) return error;
      if (!owns_cluster(entry)) return 0;
      append_pieces(at, next, entry, pieces);
      if (pieces.back().kind != Extent::Kind::Data) return 0;
      at = next;
    }
  }
  if (std::ranges::any_of(pieces, [](const Piece& piece) { return piece.kind != Extent::Kind::Data; })) return 0;
  done = true;
  for (const Piece& piece : pieces) {
    const int error = file_->write(piece.host, slice(from, piece.offset - offset, piece.length));
    if (error != 0) return error;
  }
  return 0;
}

int Qcow2Image::write_mapping(std::uint64_t offset, Buffers from) {
  std::vector<ClusterWrite> plan;
  int error = this->plan(offset, total_size(from), plan);
  Writes writes;
  for (const ClusterWrite& write : plan) {
    if (error != 0) break;
    const std::uint64_t at = (write.cluster << header_.cluster_bits) + write.begin;
    error = gather_writes(write, slice(from, at - offset, write.end - write.begin), writes);
  }
  for (const Writes::Run& run : writes.runs) {
    if (error == 0) error = file_->write(run.host, run.buffers);
  }
  if (error != 0) {
    unplan(plan);
    return error;
  }
  return link(plan);
}

int Qcow2Image::plan(std::uint64_t offset, std::uint64_t length, std::vector<ClusterWrite>& plan) {
  const std::lock_guard guard(meta_);
  const std::uint64_t end = offset + length;
  const auto give_back = [&](std::size_t allocated) {
    for (std::size_t i = 0; i < allocated; ++i) {
      if (plan[i].fresh) refcounts_.decrement(plan[i].host >> header_.cluster_bits);
    }
    plan.clear();
  };
  for (std::uint64_t at = offset; at < end;) {
    const std::uint64_t cluster = at >> header_.cluster_bits;
    const std::uint64_t base = cluster << header_.cluster_bits;
    const std::uint64_t next = std::min(end, base + header_.cluster_size());
    ClusterWrite write{cluster, at - base, next - base, {}, false, 0};
    int error = make_table_writable(cluster / header_.l2_entries());
    if (error == 0) error = lookup(cluster, write.old);
    if (error != 0) {
      plan.clear();
      return error;
    }
    write.fresh = !owns_cluster(write.old);
    write.host = write.fresh ? 0 : host_offset(write.old);
    plan.push_back(write);
    at = next;
  }
  for (std::size_t i = 0; i < plan.size();) {
    if (!plan[i].fresh) {
      ++i;
      continue;
    }
    std::uint64_t wanted = 1;
    while (i + wanted < plan.size() && plan[i + wanted].fresh) ++wanted;
    std::uint64_t host = 0;
    std::uint64_t count = 0;
    if (const int error = refcounts_.allocate(wanted, host, count); error != 0) {
      give_back(i);
      return error;
    }
    for (std::uint64_t n = 0; n < count; ++n) plan[i + n].host = host + (n << header_.cluster_bits);
    i += count;
  }
  return 0;
}

void Qcow2Image::unplan(const std::vector<ClusterWrite>& plan) {
  const std::lock_guard guard(meta_);
  for (const ClusterWrite& write : plan) {
    if (write.fresh) refcounts_.decrement(write.host >> header_.cluster_bits);
  }
}

int Qcow2Image::read_old(const ClusterWrite& write, std::uint64_t begin, std::span<std::byte> into) {
  const std::uint64_t offset = (write.cluster << header_.cluster_bits) + begin;
  std::vector<Piece> pieces;
  append_pieces(offset, offset + into.size(), write.old, pieces);
  const iovec buffer = as_iovec(into);
  return read_pieces(pieces, offset, {&buffer, 1});
}

int Qcow2Image::gather_writes(const ClusterWrite& write, Buffers from, Writes& writes) {
  const std::uint64_t unit_size = header_.subcluster_size();
  const auto copy = [&](std::uint64_t begin, std::uint64_t end) {
    if (begin == end) return 0;
    std::vector<std::byte>& bytes = writes.copies.emplace_back(end - begin);
    if (const int error = read_old(write, begin, bytes); error != 0) return error;
    const iovec buffer = as_iovec(std::span(bytes));
    writes.add(write.host + begin, {&buffer, 1});
    return 0;
  };
  // A unit that has data in place keeps what the request does not touch; any other is written whole.
  const auto filled = [&](std::uint64_t unit) {
    return !write.fresh && unit_kind(header_, write.old, static_cast<unsigned>(unit)) == Extent::Kind::Data;
  };
  /// What else a fresh cluster must take over.
  const auto copy_units = [&](std::uint64_t first, std::uint64_t end) {
    for (std::uint64_t unit = first; write.fresh && unit < end; ++unit) {
      const Extent::Kind kind = unit_kind(header_, write.old, static_cast<unsigned>(unit));
      if (kind != Extent::Kind::Data && kind != Extent::Kind::Compressed) continue;
      if (const int error = copy(unit * unit_size, (unit + 1) * unit_size); error != 0) return error;
    }
    return 0;
  };
  const std::uint64_t first = write.begin / unit_size;
  const std::uint64_t last = (write.end - 1) / unit_size;
  if (const int error = copy_units(0, first); error != 0) return error;
  if (const int error = filled(first) ? 0 : copy(first * unit_size, write.begin); error != 0) return error;
  writes.add(write.host + write.begin, from);
  if (const int error = filled(last) ? 0 : copy(write.end, (last + 1) * unit_size); error != 0) return error;
  return copy_units(last + 1, header_.subclusters());
}

int Qcow2Image::link(const std::vector<ClusterWrite>& plan) {
  const std::lock_guard guard(meta_);
  int error = 0;
  for (const ClusterWrite& write : plan) {
    L2Entry entry{write.host | kCopied, 0};
    if (header_.extended_l2()) {
      const std::uint64_t unit_size = header_.subcluster_size();
      const auto first = static_cast<unsigned>(write.begin / unit_size);
      const auto end = static_cast<unsigned>((write.end - 1) / unit_size + 1);
      entry.bitmap = is_compressed(write.old) ? alloc_bits(0, kSubclusters) : write.old.bitmap;
      entry.bitmap = (entry.bitmap | alloc_bits(first, end)) & ~zero_bits(first, end);
    }
    if (error == 0) error = store(write.cluster, entry);
    if (!write.fresh) continue;
    if (error == 0) {
      release(write.old, false);
    } else {
      refcounts_.decrement(write.host >> header_.cluster_bits);
    }
  }
  return error;
}

void Qcow2Image::release(const L2Entry& entry, bool punch) {
  if (is_compressed(entry)) {
    const CompressedPlace place = compressed_place(header_, entry.word);
    const std::uint64_t last = (place.offset + place.size - 1) >> header_.cluster_bits;
    for (std::uint64_t cluster = place.offset >> header_.cluster_bits; cluster <= last; ++cluster) {
      frees_.push_back({cluster << header_.cluster_bits});
    }
    unpacked_.clear();
  } else if (host_offset(entry) != 0) {
    frees_.push_back({host_offset(entry), punch && (entry.word & kCopied) != 0});
  }
}

int Qcow2Image::allocate_bytes(std::uint64_t size, std::uint64_t& offset) {
  const std::uint64_t cluster_size = header_.cluster_size();
  const std::uint64_t room = (cluster_size - compressed_end_ % cluster_size) % cluster_size;
  std::uint64_t shared = 0;
  if (room != 0) {
    if (const int error = refcounts_.get(compressed_end_ >> header_.cluster_bits, shared); error != 0) return error;
  }
  const bool may_share = room != 0 && shared != 0 && shared < header_.refcount_max();
  if (may_share && size <= room) {
    offset = compressed_end_;
    compressed_end_ += size;
    return refcounts_.increment(offset >> header_.cluster_bits);
  }
  std::uint64_t fresh = 0;
  std::uint64_t count = 0;
  if (const int error = refcounts_.allocate(1, fresh, count); error != 0) return error;
  offset = fresh;
  if (may_share && fresh == compressed_end_ + room) {
    offset = compressed_end_;
    if (const int error = refcounts_.increment(offset >> header_.cluster_bits); error != 0) return error;
  }
  compressed_end_ = offset + size;
  return 0;
}

int Qcow2Image::write_compressed(std::uint64_t offset, std::span<const std::byte> cluster) {
  if (options_.read_only) return EROFS;
  if (const int error = make_room(); error != 0) return error;
  std::vector<std::byte> whole;
  if (cluster.size() < header_.cluster_size()) {
    whole.assign(cluster.begin(), cluster.end());
    whole.resize(header_.cluster_size());
  }
  const std::vector<std::byte> packed = compress(header_.compression_type, whole.empty() ? cluster : whole);
  const iovec plain = as_iovec(cluster);
  if (packed.empty()) return write(offset, {&plain, 1});

  const auto hold = ranges_.acquire(offset, offset + header_.cluster_size(), RangeLock::Mode::Exclusive);
  const std::uint64_t index = offset >> header_.cluster_bits;
  std::uint64_t host = 0;
  {
    const std::lock_guard guard(meta_);
    L2Entry old;
    if (const int error = lookup(index, old); error != 0) return error;
    if (old.word != 0 || old.bitmap != 0) return EEXIST;
    if (const int error = allocate_bytes(packed.size(), host); error != 0) return error;
  }
  int error = file_->write_bytes(host, packed);
  state_.note_written();
  const std::lock_guard guard(meta_);
  const L2Entry entry{compressed_word(header_, host, packed.size()), 0};
  if (error == 0) error = store(index, entry);
  if (error != 0) release(entry, false);
  return error;
}

}  // namespace doppel::storage::qcow2
