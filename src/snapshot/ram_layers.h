#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "machine/saved_machine.h"
#include "memory/guest_memory.h"
#include "snapshot/manifest.h"

/// A layer of RAM is a sparse file as long as the machine's memory, with page n at n * 4 KiB, and a list of one
/// checksum a page: 0 says that the page is not in this layer, but in one below (or zero, if there is none).
namespace doppel::snapshot {

/// Writes one layer. One thread.
class LayerWriter {
 public:
  /// The descriptors stay the caller's. `complete`: nothing lies below, so that zero pages need no mention.
  LayerWriter(int ram, int sums, std::uint64_t memory_bytes, bool complete);

  Result<void> begin();
  Result<void> page(std::uint64_t index, std::span<const std::byte> contents);
  /// What the manifest says of it.
  Result<Manifest::File> finish();
  std::uint64_t stored_bytes() const { return stored_bytes_; }

 private:
  Result<void> flush();

  const int ram_, sums_;
  const std::uint64_t memory_bytes_;
  const bool complete_;
  std::vector<std::uint32_t> checksums_;
  std::vector<std::byte> run_;  ///< pages that follow one another and wait to be written together
  std::uint64_t run_start_ = 0;
  std::uint64_t stored_bytes_ = 0;
};

/// Adds the pages of a layer to those below it.
void add_pieces(const std::shared_ptr<const UniqueFd>& ram, std::span<const std::byte> sums, std::uint64_t memory_bytes,
                std::vector<machine::SavedMachine::RamPiece>& pieces);

/// A layer with its list.
struct OpenLayer {
  std::shared_ptr<const UniqueFd> ram;
  std::vector<std::byte> sums;
};
/// A page as the layers, lowest first, show it. False: it is zero, and `contents` is as before. The error is damage.
Result<bool> read_page(const std::vector<OpenLayer>& layers, std::uint64_t page, std::span<std::byte> contents);

/// Whether all pages of a layer are as they were written.
Result<void> verify_layer(int ram, std::span<const std::byte> sums, std::uint64_t memory_bytes,
                          const std::function<void(double done)>& progress);

}  // namespace doppel::snapshot
