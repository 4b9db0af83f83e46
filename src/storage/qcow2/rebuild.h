#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "base/result.h"
#include "storage/file.h"
#include "storage/qcow2/header.h"

namespace doppel::storage::qcow2 {

/// How often each host cluster of a file is referred to. Untouched parts take no memory.
class ReferenceCounts {
 public:
  static Result<ReferenceCounts> make(std::uint64_t clusters);
  ReferenceCounts() = default;

  std::uint64_t size() const { return size_; }
  std::uint64_t get(std::uint64_t cluster) const { return cluster < size_ ? counts_.get()[cluster] : 0; }
  void increment(std::uint64_t cluster) { ++counts_.get()[cluster]; }
  void decrement(std::uint64_t cluster) {
    if (cluster < size_ && counts_.get()[cluster] != 0) --counts_.get()[cluster];
  }

 private:
  struct Free {
    void operator()(std::uint32_t* counts) const { std::free(counts); }  // NOLINT(cppcoreguidelines-no-malloc)
  };
  std::uint64_t size_ = 0;
  std::unique_ptr<std::uint32_t, Free> counts_;
};

/// Writes refcounts that say `counts` behind everything in the file, then makes the header refer to them. The file's
/// own refcount structure must not be part of the counts.
Result<void> rebuild_refcounts(File& file, const Header& header, const ReferenceCounts& counts);

}  // namespace doppel::storage::qcow2
