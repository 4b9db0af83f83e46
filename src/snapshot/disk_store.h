#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "machine/config.h"
#include "snapshot/disk_chain.h"
#include "snapshot/manifest.h"

namespace doppel::snapshot {

/// Where a running machine's disk is, for whoever makes its snapshots.
struct DiskPlace {
  Manifest::Disk disk;    ///< without what a snapshot fixes: its layer and its base
  std::string directory;  ///< of its layers; need not be there yet
  std::string top;        ///< the layer that the machine writes, or reads; empty: `base` itself
  std::string base;       ///< a file of the user's, absolute
  std::uint64_t size = 0;

  /// From now on the machine writes this one of its directory.
  void advance(const std::string& next) {
    top = next;
    disk.format = "qcow2";
  }
};

/// What a machine needs of a DiskStore while it starts and runs.
class PreparedDisks {
 public:
  PreparedDisks() = default;
  PreparedDisks(PreparedDisks&& other) noexcept;
  PreparedDisks& operator=(PreparedDisks&&) = delete;
  /// Removes what nobody has taken over.
  ~PreparedDisks();

  std::vector<DiskPlace> places{};
  /// Of the layers that end with the machine; empty: there are none. Whoever calls release() removes it then.
  const std::string& run_directory() const { return run_directory_; }
  void release() { owned_ = false; }
  /// The machine has opened its disks: layers may be merged again.
  void opened() { reading_.reset(); }

 private:
  friend class DiskStore;
  std::string run_directory_{};
  UniqueFd run_lock_{};  ///< tells others that the machine lives
  UniqueFd reading_{};
  bool owned_ = false;
};

/// What machines write to their disks while snapshots hold on to what was there before. Under ROOT:
///
///     HASH/       the layers over a file of the user's, its name in `origin`, the newest named by the link `current`
///     .run-XXXX/  the layers of a machine that keeps nothing
///     .lock       shared by those who follow chains by name, alone by those who merge them
///
/// A machine's top layer is made, and `current` set, before the instant of a snapshot: until something is written to
/// it, it shows what lies below, so that at each moment `current` is the disk as the machine last wrote it.
class DiskStore {
 public:
  explicit DiskStore(std::string root) : root_(std::move(root)) {}
  const std::string& root() const { return root_; }

  /// Finds or makes the files for a new machine's disks and names them in `disks`. `base`: the snapshot that it goes on
  /// from, in `base_directory`; `keep`: what it writes is kept where the snapshot's machine kept it.
  Result<PreparedDisks> prepare(std::vector<machine::DiskConfig>& disks, const std::optional<Manifest>& base,
                                const std::string& base_directory, bool keep) const;

  /// Makes the next top layer of a disk that is written, over what is the top now; its name. Layers that nothing leads
  /// to go.
  Result<std::string> make_next(const DiskPlace& place) const;
  /// Gives a disk's layers, which nobody writes any more, to the snapshot that is made in `draft`; what it says of
  /// them.
  Result<Manifest::Disk> give(const DiskPlace& frozen, const std::string& draft) const;

  /// The file that is to be opened for `path`, which may have layers here; empty: none.
  std::string current_of(const std::string& path) const;
  /// Forgets the layers over a file, which is gone.
  void forget(const std::string& path) const;

  /// Locks for the time of following names, or of changing them.
  Result<UniqueFd> lock(bool exclusive) const;
  std::string home_of(const std::string& path) const;

 private:
  class Preparation;
  void remove_leftovers() const;

  std::string root_;
};

/// Whether a snapshot's disks are there, and what they were. The error names what is not.
Result<void> check_disks(const Manifest& manifest, const std::string& directory);

}  // namespace doppel::snapshot
