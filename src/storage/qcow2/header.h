#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "storage/file.h"
#include "storage/qcow2/format.h"

namespace doppel::storage::qcow2 {

struct BitmapsExtension {
  std::uint32_t count = 0;
  std::uint64_t directory_size = 0;  ///< bytes
  std::uint64_t directory_offset = 0;
};

/// The header and its extensions, fields named as in the format's description. What parse_header returned is
/// consistent: every offset is aligned and every table lies in the file and within the limits of format.h.
struct Header {
  std::uint32_t version = 3;
  std::uint32_t cluster_bits = 16;
  std::uint64_t size = 0;
  std::uint32_t crypt_method = 0;
  std::uint32_t l1_size = 0;
  std::uint64_t l1_table_offset = 0;
  std::uint64_t refcount_table_offset = 0;
  std::uint32_t refcount_table_clusters = 0;
  std::uint32_t nb_snapshots = 0;
  std::uint64_t snapshots_offset = 0;
  std::uint64_t incompatible_features = 0;
  std::uint64_t compatible_features = 0;
  std::uint64_t autoclear_features = 0;
  std::uint32_t refcount_order = 4;
  std::uint32_t header_length = kHeaderLengthOurs;
  CompressionType compression_type = CompressionType::Deflate;

  std::uint64_t backing_file_offset = 0;      ///< where the file has the name
  std::string backing_file;                   ///< empty: none
  std::optional<std::string> backing_format;  ///< "raw", "qcow2"
  std::optional<BitmapsExtension> bitmaps;
  struct Extension {
    std::uint32_t type;
    std::vector<std::byte> data;
  };
  std::vector<Extension> unknown_extensions;  ///< kept as they are

  std::uint64_t cluster_size() const { return std::uint64_t{1} << cluster_bits; }
  bool extended_l2() const { return (incompatible_features & kExtendedL2) != 0; }
  std::uint64_t l2_entry_size() const { return extended_l2() ? 16 : 8; }
  std::uint64_t l2_entries() const { return cluster_size() / l2_entry_size(); }
  unsigned subclusters() const { return extended_l2() ? kSubclusters : 1; }
  std::uint64_t subcluster_size() const { return cluster_size() / subclusters(); }
  std::uint64_t refcount_bits() const { return std::uint64_t{1} << refcount_order; }
  std::uint64_t refcount_max() const {
    return refcount_order == 6 ? ~std::uint64_t{0} : (std::uint64_t{1} << refcount_bits()) - 1;
  }
  /// Clusters whose refcounts one refcount block holds.
  std::uint64_t refcounts_per_block() const { return cluster_size() * 8 / refcount_bits(); }
  /// L1 entries that a disk of `bytes` needs.
  std::uint64_t l1_entries_for(std::uint64_t bytes) const;
  /// Host clusters of `bytes`, rounded up.
  std::uint64_t clusters_for(std::uint64_t bytes) const { return (bytes + cluster_size() - 1) >> cluster_bits; }
};

/// Reads and checks the header; what this program cannot serve is refused by name.
Result<Header> parse_header(File& file);

/// The header's bytes, extensions and backing file name, as they stand at the start of the file; an error if they do
/// not fit into the first cluster. The name goes to `name_at` if that is behind the rest.
Result<std::vector<std::byte>> serialise_header(const Header& header, std::uint64_t name_at = 0);

}  // namespace doppel::storage::qcow2
