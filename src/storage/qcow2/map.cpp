// Where guest clusters are: L1 and L2.
#include <algorithm>
#include <cerrno>

#include "storage/qcow2/image.h"

namespace doppel::storage::qcow2 {

std::uint64_t Qcow2Image::slice_of(std::uint64_t cluster, std::uint64_t table) const {
  const std::uint64_t at = cluster % header_.l2_entries() * header_.l2_entry_size();
  return table + at / l2_.slice_size() * l2_.slice_size();
}

L2Entry Qcow2Image::entry_in(const TableCache::Slice& slice, std::uint64_t cluster) const {
  const std::uint64_t at = cluster % header_.l2_entries() * header_.l2_entry_size() % l2_.slice_size();
  L2Entry entry{load_be<std::uint64_t>(&slice.bytes[at]), 0};
  if (header_.extended_l2()) entry.bitmap = load_be<std::uint64_t>(&slice.bytes[at + 8]);
  return entry;
}

int Qcow2Image::lookup(std::uint64_t cluster, L2Entry& entry) {
  entry = {};
  const std::uint64_t index = cluster / header_.l2_entries();
  const std::uint64_t table = index < l1_.size() ? l1_[index] & kOffsetMask : 0;
  if (table == 0) return 0;
  if (table % header_.cluster_size() != 0) return EIO;
  int error = 0;
  const TableCache::Slice* const slice = l2_.get(slice_of(cluster, table), error);
  if (slice == nullptr) return error;
  entry = entry_in(*slice, cluster);
  return is_broken(header_, entry) ? EIO : 0;
}

bool Qcow2Image::lookup_cached(std::uint64_t cluster, L2Entry& entry) {
  entry = {};
  const std::uint64_t index = cluster / header_.l2_entries();
  const std::uint64_t table = index < l1_.size() ? l1_[index] & kOffsetMask : 0;
  if (table == 0) return true;
  if (table % header_.cluster_size() != 0) return false;
  const TableCache::Slice* const slice = l2_.peek(slice_of(cluster, table));
  if (slice == nullptr) return false;
  entry = entry_in(*slice, cluster);
  return !is_broken(header_, entry);
}

int Qcow2Image::make_table_writable(std::uint64_t l1_index) {
  if (l1_index >= l1_.size()) return EIO;
  const std::uint64_t old = l1_[l1_index] & kOffsetMask;
  if (old != 0 && (l1_[l1_index] & kCopied) != 0) return old % header_.cluster_size() == 0 ? 0 : EIO;
  if (old % header_.cluster_size() != 0) return EIO;
  std::uint64_t table = 0;
  std::uint64_t count = 0;
  if (const int error = refcounts_.allocate(1, table, count); error != 0) return error;
  for (std::uint64_t at = 0; at < header_.cluster_size(); at += l2_.slice_size()) {
    std::vector<std::byte> bytes;
    if (old != 0) {
      int error = 0;
      const TableCache::Slice* const shared = l2_.get(old + at, error);
      if (shared == nullptr) {
        l2_.forget(table, header_.cluster_size());
        refcounts_.decrement(table >> header_.cluster_bits);
        return error;
      }
      bytes = shared->bytes;
    }
    TableCache::Slice* const slice = l2_.create(table + at);
    if (!bytes.empty()) slice->bytes = std::move(bytes);
  }
  if (old != 0) frees_.push_back({old});
  l1_[l1_index] = table | kCopied;
  changed_l1_.insert(l1_index);
  return 0;
}

int Qcow2Image::store(std::uint64_t cluster, const L2Entry& entry) {
  const std::uint64_t index = cluster / header_.l2_entries();
  if (const int error = make_table_writable(index); error != 0) return error;
  int error = 0;
  TableCache::Slice* const slice = l2_.get(slice_of(cluster, l1_[index] & kOffsetMask), error);
  if (slice == nullptr) return error;
  const std::uint64_t at = cluster % header_.l2_entries() * header_.l2_entry_size() % l2_.slice_size();
  store_be(&slice->bytes[at], entry.word);
  if (header_.extended_l2()) store_be(&slice->bytes[at + 8], entry.bitmap);
  l2_.mark_dirty(*slice);
  return 0;
}

void Qcow2Image::append_pieces(std::uint64_t begin, std::uint64_t end, const L2Entry& entry,
                               std::vector<Piece>& pieces) const {
  const std::uint64_t cluster_begin = begin & ~(header_.cluster_size() - 1);
  while (begin < end) {
    const std::uint64_t unit_end = (begin / header_.subcluster_size() + 1) * header_.subcluster_size();
    const auto unit = static_cast<unsigned>((begin - cluster_begin) / header_.subcluster_size());
    Piece piece{unit_kind(header_, entry, unit), begin, std::min(end, unit_end) - begin};
    if (piece.kind == Extent::Kind::Compressed) {
      piece.word = entry.word;
    } else if (piece.kind != Extent::Kind::Unallocated && host_offset(entry) != 0) {
      piece.allocated = true;
      piece.host = host_offset(entry) + (begin - cluster_begin);
    }
    begin += piece.length;
    if (!pieces.empty()) {
      Piece& last = pieces.back();
      if (last.kind == piece.kind && last.offset + last.length == piece.offset && last.word == piece.word &&
          last.allocated == piece.allocated && (!piece.allocated || last.host + last.length == piece.host)) {
        last.length += piece.length;
        continue;
      }
    }
    pieces.push_back(piece);
  }
}

int Qcow2Image::collect(std::uint64_t offset, std::uint64_t length, std::vector<Piece>& pieces) {
  const std::lock_guard guard(meta_);
  const std::uint64_t end = offset + length;
  while (offset < end) {
    const std::uint64_t cluster = offset >> header_.cluster_bits;
    const std::uint64_t next = std::min(end, (cluster + 1) << header_.cluster_bits);
    L2Entry entry;
    if (const int error = lookup(cluster, entry); error != 0) return error;
    append_pieces(offset, next, entry, pieces);
    offset = next;
  }
  return 0;
}

int Qcow2Image::extent(std::uint64_t offset, std::uint64_t length, Extent& extent) {
  extent = {};
  if (length == 0) return 0;
  const auto hold = ranges_.acquire(offset, offset + length, RangeLock::Mode::Shared);
  std::vector<Piece> pieces;
  // One L2 slice's worth at a time, until the run ends.
  const std::uint64_t step = l2_.slice_size() / header_.l2_entry_size() << header_.cluster_bits;
  const std::uint64_t end = offset + length;
  for (std::uint64_t at = offset; at < end && pieces.size() < 2;) {
    const std::uint64_t next = std::min(end, (at / step + 1) * step);
    if (const int error = collect(at, next - at, pieces); error != 0) return error;
    at = next;
  }
  const Piece& first = pieces.front();
  extent = {first.length, first.kind, file_.get(), first.host, first.allocated};
  if (first.kind == Extent::Kind::Compressed) {
    extent.file_offset = compressed_place(header_, first.word).offset;
    // Neighbours that are compressed too are of the same kind, if not in one place.
    for (std::size_t i = 1; i < pieces.size() && pieces[i].kind == first.kind; ++i) extent.length += pieces[i].length;
  }
  return 0;
}

bool Qcow2Image::locate(bool for_write, std::uint64_t offset, std::uint64_t length, Located& located) {
  RangeLock::Hold hold;
  if (!ranges_.try_acquire(offset, offset + length, RangeLock::Mode::Shared, hold)) return false;
  std::vector<Piece> pieces;
  std::shared_ptr<Image> backing;
  {
    const std::unique_lock guard(meta_, std::try_to_lock);
    if (!guard.owns_lock()) return false;
    backing = backing_;
    const std::uint64_t end = offset + length;
    for (std::uint64_t at = offset; at < end;) {
      const std::uint64_t cluster = at >> header_.cluster_bits;
      const std::uint64_t next = std::min(end, (cluster + 1) << header_.cluster_bits);
      L2Entry entry;
      if (!lookup_cached(cluster, entry)) return false;
      if (for_write && !owns_cluster(entry)) return false;
      append_pieces(at, next, entry, pieces);
      at = next;
    }
  }
  located.holds.push_back(std::move(hold));
  for (const Piece& piece : pieces) {
    switch (piece.kind) {
      case Extent::Kind::Compressed:
        return false;
      case Extent::Kind::Data:
        located.runs.push_back({file_.get(), piece.host, piece.length});
        break;
      case Extent::Kind::Zero:
        if (for_write) return false;
        located.runs.push_back({nullptr, 0, piece.length});
        break;
      case Extent::Kind::Unallocated: {
        if (for_write) return false;
        const std::uint64_t there =
            backing && piece.offset < backing->size() ? std::min(piece.length, backing->size() - piece.offset) : 0;
        if (there != 0 && !backing->locate(false, piece.offset, there, located)) return false;
        if (there < piece.length) located.runs.push_back({nullptr, 0, piece.length - there});
        break;
      }
    }
  }
  return true;
}

}  // namespace doppel::storage::qcow2
