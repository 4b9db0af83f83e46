#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "snapshot/manifest.h"

/// Disks as snapshots have them: frozen layers, each a qcow2 file that names the one below it relative to its own
/// directory. A layer has one name for ever, and is a hard link in every directory that needs it, so each directory is
/// a whole chain by itself. Below the lowest there may be a file of the user's, the base, with its absolute path.
namespace doppel::snapshot {

struct DiskChain {
  std::vector<std::string> names{};  ///< in the directory, top first
  std::string base{};                ///< empty: the lowest stands on nothing
  std::string base_format{};         ///< empty: not said
  std::uint64_t size = 0;            ///< of the disk, in bytes
};

/// Whether a name in a directory is a layer's.
bool is_layer_name(const std::string& name);

/// The chain on whose top is `top`, a name in `directory`.
Result<DiskChain> read_chain(const std::string& directory, const std::string& top);

/// Gives all layers of a chain names in another directory, where they do not have them.
Result<void> link_chain(const DiskChain& chain, const std::string& from, const std::string& to);

/// What a new overlay stands on.
struct OverlayBase {
  std::string path;    ///< as the overlay names it
  std::string format;  ///< "raw", "qcow2"
  std::uint64_t size = 0;
};
/// Makes an empty overlay; its name in `directory`. Shows what lies below as long as nothing is written to it.
/// `durable`: it is there after a power cut.
Result<std::string> make_overlay(const std::string& directory, const OverlayBase& base, bool durable);

/// Tells whether a file is still the one that it was.
Result<Manifest::FileMark> mark_of(const std::string& path);

Result<void> sync_directory(const std::string& path);

}  // namespace doppel::snapshot
