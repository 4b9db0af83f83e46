#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "storage/qcow2/format.h"

namespace doppel::storage::qcow2 {

/// Fills `out` from a compressed cluster; `in` may have bytes after its end. False: it is damaged.
bool decompress(CompressionType type, std::span<const std::byte> in, std::span<std::byte> out);

/// Empty if the result would not be smaller than the input.
std::vector<std::byte> compress(CompressionType type, std::span<const std::byte> in);

/// The last clusters that were unpacked, for guests that read them in small pieces. Thread-safe.
class UnpackedClusters {
 public:
  using Cluster = std::shared_ptr<const std::vector<std::byte>>;

  explicit UnpackedClusters(std::size_t limit) : limit_(limit) {}
  /// `word` is the L2 entry.
  Cluster find(std::uint64_t word);
  void keep(std::uint64_t word, Cluster cluster);
  void clear();

 private:
  const std::size_t limit_;
  std::mutex mutex_;
  std::vector<std::pair<std::uint64_t, Cluster>> clusters_;  ///< most recent last
};

}  // namespace doppel::storage::qcow2
