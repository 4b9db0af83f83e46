#pragma once

#include <cstdint>

#include "storage/image.h"
#include "storage/qcow2/header.h"

/// Pure functions on L2 entries. A standard entry speaks of one unit, its cluster; an extended one of 32, its
/// subclusters.
namespace doppel::storage::qcow2 {

struct L2Entry {
  std::uint64_t word = 0;
  std::uint64_t bitmap = 0;  ///< extended only: bit n says subcluster n is allocated, bit 32 + n that it is zero
};

constexpr std::uint64_t alloc_bits(unsigned first, unsigned end) {
  return (end >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << end) - 1) & ~((std::uint64_t{1} << first) - 1);
}
constexpr std::uint64_t zero_bits(unsigned first, unsigned end) {
  return alloc_bits(first, end) << kSubclusters;
}

inline bool is_compressed(const L2Entry& entry) {
  return (entry.word & kCompressed) != 0;
}
/// Where the entry's cluster is, 0 if it has none. Not for compressed ones.
inline std::uint64_t host_offset(const L2Entry& entry) {
  return entry.word & kOffsetMask;
}
/// The entry's own host cluster, that nobody else refers to.
inline bool owns_cluster(const L2Entry& entry) {
  return !is_compressed(entry) && host_offset(entry) != 0 && (entry.word & kCopied) != 0;
}

inline Extent::Kind unit_kind(const Header& header, const L2Entry& entry, unsigned unit) {
  if (is_compressed(entry)) return Extent::Kind::Compressed;
  if (header.extended_l2()) {
    if ((entry.bitmap & zero_bits(unit, unit + 1)) != 0) return Extent::Kind::Zero;
    return (entry.bitmap & alloc_bits(unit, unit + 1)) != 0 ? Extent::Kind::Data : Extent::Kind::Unallocated;
  }
  if (header.version == 3 && (entry.word & kZero) != 0) return Extent::Kind::Zero;
  return host_offset(entry) != 0 ? Extent::Kind::Data : Extent::Kind::Unallocated;
}

/// Whether the entry contradicts itself or the format.
inline bool is_broken(const Header& header, const L2Entry& entry) {
  if (is_compressed(entry)) return false;
  if (host_offset(entry) % header.cluster_size() != 0) return true;
  if (!header.extended_l2()) return false;
  const std::uint64_t allocated = entry.bitmap & alloc_bits(0, kSubclusters);
  return (allocated & (entry.bitmap >> kSubclusters)) != 0 || (allocated != 0 && host_offset(entry) == 0);
}

/// Where a compressed cluster's bytes are. They may end anywhere in [size - 511, size] bytes.
struct CompressedPlace {
  std::uint64_t offset;
  std::uint64_t size;
};

inline CompressedPlace compressed_place(const Header& header, std::uint64_t word) {
  const unsigned offset_bits = 62 - (header.cluster_bits - 8);
  const std::uint64_t offset = word & ((std::uint64_t{1} << offset_bits) - 1);
  const std::uint64_t sectors = (word & (kCompressed - 1)) >> offset_bits;
  return {offset, (sectors + 1) * 512 - offset % 512};
}

inline std::uint64_t compressed_word(const Header& header, std::uint64_t offset, std::uint64_t size) {
  const unsigned offset_bits = 62 - (header.cluster_bits - 8);
  const std::uint64_t sectors = (offset + size - 1) / 512 - offset / 512;
  return kCompressed | sectors << offset_bits | offset;
}

}  // namespace doppel::storage::qcow2
