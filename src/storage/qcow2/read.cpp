#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "storage/qcow2/image.h"

namespace doppel::storage::qcow2 {

int Qcow2Image::read(std::uint64_t offset, Buffers into) {
  const std::uint64_t length = total_size(into);
  const auto hold = ranges_.acquire(offset, offset + length, RangeLock::Mode::Shared);
  std::vector<Piece> pieces;
  if (const int error = collect(offset, length, pieces); error != 0) return error;
  return read_pieces(pieces, offset, into);
}

int Qcow2Image::read_pieces(const std::vector<Piece>& pieces, std::uint64_t offset, Buffers into) {
  for (const Piece& piece : pieces) {
    const std::vector<iovec> part = slice(into, piece.offset - offset, piece.length);
    if (const int error = read_piece(piece, part); error != 0) return error;
  }
  return 0;
}

int Qcow2Image::read_piece(const Piece& piece, Buffers into) {
  switch (piece.kind) {
    case Extent::Kind::Data:
      return file_->read(piece.host, into);
    case Extent::Kind::Zero:
      fill_zero(into);
      return 0;
    case Extent::Kind::Unallocated:
      return read_backing(piece.offset, into);
    case Extent::Kind::Compressed: {
      UnpackedClusters::Cluster cluster;
      if (const int error = unpack(piece.word, cluster); error != 0) return error;
      scatter(std::span(*cluster).subspan(piece.offset % header_.cluster_size(), piece.length), into);
      return 0;
    }
  }
  return EIO;
}

int Qcow2Image::read_backing(std::uint64_t offset, Buffers into) {
  const std::shared_ptr<Image> backing = this->backing();
  const std::uint64_t length = total_size(into);
  const std::uint64_t there = backing && offset < backing->size() ? std::min(length, backing->size() - offset) : 0;
  if (there != 0) {
    if (const int error = backing->read(offset, slice(into, 0, there)); error != 0) return error;
  }
  if (there < length) fill_zero(slice(into, there, length - there));
  return 0;
}

int Qcow2Image::unpack(std::uint64_t word, UnpackedClusters::Cluster& cluster) {
  cluster = unpacked_.find(word);
  if (cluster) return 0;
  const CompressedPlace place = compressed_place(header_, word);
  std::vector<std::byte> packed(place.size);
  if (const int error = file_->read_bytes(place.offset, packed); error != 0) return error;
  auto unpacked = std::make_shared<std::vector<std::byte>>(header_.cluster_size());
  if (!decompress(header_.compression_type, packed, *unpacked)) {
    // Once: a guest may read it again and again.
    if (!told_damage_.exchange(true)) {
      log::error("storage", "{} has a damaged compressed cluster at byte {}", name(), place.offset);
    }
    return EIO;
  }
  cluster = std::move(unpacked);
  unpacked_.keep(word, cluster);
  return 0;
}

}  // namespace doppel::storage::qcow2
