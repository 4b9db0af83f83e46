#include "storage/qcow2/rebuild.h"

#include <fmt/format.h>

#include <array>

#include "base/system_error.h"
#include "storage/qcow2/refcounts.h"

namespace doppel::storage::qcow2 {
namespace {

constexpr std::uint64_t kMaxClusters = std::uint64_t{1} << 31;
constexpr std::uint64_t kRefcountTableOffsetAt = 48;

}  // namespace

Result<ReferenceCounts> ReferenceCounts::make(std::uint64_t clusters) {
  ReferenceCounts counts;
  if (clusters <= kMaxClusters) {
    // calloc, not a vector: a sparse file may be far larger than what it holds.
    counts.counts_.reset(static_cast<std::uint32_t*>(std::calloc(clusters + 1, sizeof(std::uint32_t))));
  }
  if (!counts.counts_) return Error{fmt::format("{} clusters are too many to check", clusters)};
  counts.size_ = clusters;
  return counts;
}

Result<void> rebuild_refcounts(File& file, const Header& header, const ReferenceCounts& counts) {
  const std::uint64_t cluster_size = header.cluster_size();
  const std::uint64_t per_block = header.refcounts_per_block();
  const std::uint64_t first = counts.size();
  // The new structure describes itself too.
  std::uint64_t blocks = 1;
  std::uint64_t table_clusters = 1;
  for (std::uint64_t total = first;; total = first + blocks + table_clusters) {
    const std::uint64_t needed = (total + per_block - 1) / per_block;
    const std::uint64_t needed_table = header.clusters_for(needed * 8);
    if (needed <= blocks && needed_table <= table_clusters && total != first) break;
    blocks = std::max(blocks, needed);
    table_clusters = std::max(table_clusters, needed_table);
  }
  if (table_clusters * cluster_size > kMaxRefcountTableBytes) return Error{file.name() + " is too large to repair"};

  const std::uint64_t end = first + blocks + table_clusters;
  std::vector<std::byte> table(table_clusters * cluster_size);
  std::vector<std::byte> block(cluster_size);
  const auto failed = [&](int error) { return system_error("cannot repair " + file.name(), error); };
  for (std::uint64_t i = 0; i < blocks; ++i) {
    std::ranges::fill(block, std::byte{0});
    for (std::uint64_t n = 0; n < per_block; ++n) {
      const std::uint64_t cluster = i * per_block + n;
      const std::uint64_t count = cluster < first ? counts.get(cluster) : cluster < end ? 1 : 0;
      if (count > header.refcount_max()) {
        return Error{fmt::format("{} needs refcounts wider than {} bits", file.name(), header.refcount_bits())};
      }
      store_refcount(header.refcount_order, block.data(), n, count);
    }
    const std::uint64_t offset = (first + i) << header.cluster_bits;
    store_be(&table[i * 8], offset);
    if (const int error = file.write_bytes(offset, block); error != 0) return failed(error);
  }
  const std::uint64_t table_offset = (first + blocks) << header.cluster_bits;
  int error = file.write_bytes(table_offset, table);
  if (error == 0) error = file.sync();
  std::array<std::byte, 12> place{};
  store_be(&place[0], table_offset);
  store_be(&place[8], static_cast<std::uint32_t>(table_clusters));
  if (error == 0) error = file.write_bytes(kRefcountTableOffsetAt, place);
  if (error == 0) error = file.sync();
  if (error != 0) return failed(error);
  return {};
}

}  // namespace doppel::storage::qcow2
