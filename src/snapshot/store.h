#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "machine/saved_machine.h"
#include "snapshot/disk_store.h"
#include "snapshot/manifest.h"
#include "snapshot/ram_layers.h"

namespace doppel::snapshot {

/// The files of one snapshot in its directory. Layers are numbered from the lowest; all but the highest are hard links
/// to an ancestor's, so that a snapshot is whole by itself whatever becomes of the others.
namespace file_name {
inline constexpr const char* kManifest = "manifest.json";
inline constexpr const char* kClock = "clock";
inline constexpr const char* kComponents = "components";
std::string ram(std::size_t layer);
std::string sums(std::size_t layer);
}  // namespace file_name

/// A snapshot that is being written: a directory that nobody sees as one before Store::commit, which removes itself if
/// it does not come to that. Holds a lock, by which others see whether its maker lives.
class Draft {
 public:
  Draft(Draft&&) noexcept = default;
  Draft& operator=(Draft&&) = delete;
  ~Draft();

  const std::string& directory() const { return directory_; }
  /// Open for reading and writing, empty: of this snapshot's own layer.
  UniqueFd manifest, clock, components, ram, sums;
  /// How many layers lie below its own.
  std::size_t layers_below = 0;

 private:
  friend class Store;
  Draft() = default;

  std::string directory_, final_;
  UniqueFd lock_;
};

/// "NAME" or "NAME:TAG".
struct Reference {
  std::string machine;
  std::string tag;  ///< empty: the newest

  static Result<Reference> parse(std::string_view text);
};

/// All snapshots of a user, ROOT/MACHINE/TAG/. Functions for any process at any time: what changes is renamed into
/// place, or out of it, as a whole.
class Store {
 public:
  explicit Store(std::string root) : root_(std::move(root)) {}
  /// The one in base's state_directory().
  static Result<Store> of_user();

  /// By machine and time; those whose manifest cannot be read are left out.
  Result<std::vector<Manifest>> list(std::string_view machine = {}) const;
  Result<Manifest> find(const Reference& reference) const;
  std::string directory(std::string_view machine, std::string_view tag) const;
  /// Where machines' disks have their layers: on the same file system.
  DiskStore disks() const { return DiskStore(root_ + "/.disks"); }

  /// Makes room for a snapshot. With `parent`, the layers of that one are linked into the new one, if it is still
  /// there.
  struct Parent {
    std::string machine, tag, id;
  };
  Result<Draft> begin(std::string_view machine, std::string_view tag, const std::optional<Parent>& parent) const;
  /// What the draft's files hold is on the host's disk afterwards, and the snapshot is there.
  Result<void> commit(Draft& draft) const;

  /// Compresses its own layer of RAM, unless a later snapshot stands on it already. What goes on from it unpacks it
  /// first.
  Result<void> pack(const Manifest& manifest, const std::function<void(double done)>& progress = {}) const;

  /// Layers of disks that nobody needs apart any more are merged.
  Result<void> remove(std::string_view machine, std::string_view tag) const;

  /// Opens what a machine goes on from. Checks all but RAM, which is too much to look at: see verify().
  Result<std::shared_ptr<machine::SavedMachine>> open(const Manifest& manifest) const;
  /// All of its RAM, for reading.
  Result<std::vector<OpenLayer>> open_layers(const Manifest& manifest) const;
  /// Reads all of RAM and compares its checksums.
  Result<void> verify(const Manifest& manifest, const std::function<void(double done)>& progress = {}) const;

 private:
  Result<void> unpack(const Manifest& manifest) const;
  Result<std::size_t> link_layers(const Parent& parent, const std::string& into) const;
  void remove_leftovers(const std::string& directory) const;

  std::string root_;
};

}  // namespace doppel::snapshot
