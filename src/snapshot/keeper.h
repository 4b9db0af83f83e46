#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "snapshot/disk_store.h"
#include "snapshot/store.h"

/// A machine in its jail opens no files, so a process outside opens those of its snapshots for it, and puts them in
/// place. The machine may be in its guest's hands by then: all that it can have done is to make snapshots of its own.
///
/// Over a Unix socket of whole packets, one request and one answer at a time, in words:
///
///     bind MACHINE                once
///     begin TAG [MACHINE PARENT ID]   "ok LAYERS", with the draft's five files
///     overlays                    "ok 1 2…", with so many files for each disk that is written: its next top layer, and
///                                 the same under O_DIRECT, if the disk has no cache
///     taken N                     "ok": N disks write those now
///     disks                       "ok DISKS", of the draft, in JSON
///     commit · abort              "ok"
///
/// or "error MESSAGE".
namespace doppel::snapshot {

/// A machine's disks, where they can be part of snapshots.
struct KeptDisks {
  DiskStore store;
  std::vector<DiskPlace> places;
};

/// The side that has the files. Returns when the other side is gone, whatever it has begun being undone.
/// `on_bound` is called with the machine's name when it is known.
void serve_keeper(int socket, const Store& store, const std::optional<KeptDisks>& disks = std::nullopt,
                  const std::function<void(const std::string& machine)>& on_bound = {});

/// The machine's side. One thread at a time.
class Keeper {
 public:
  /// The socket stays the caller's.
  explicit Keeper(int socket) : socket_(socket) {}

  struct Files {
    UniqueFd manifest, clock, components, ram, sums;
    std::size_t layers_below = 0;  ///< 0 although a parent was named: it is gone
  };

  Result<void> bind(const std::string& machine);
  Result<Files> begin(const std::string& tag, const std::optional<Store::Parent>& parent);
  /// A disk's next layer, empty and open for writing; `direct` is the same past the host's cache, or invalid.
  struct Overlay {
    UniqueFd file, direct;
  };
  /// Of all disks that are written, in their order.
  Result<std::vector<Overlay>> overlays();
  /// So many of the disks are written to those from now on.
  Result<void> taken(std::size_t disks);
  /// The disks as they were before that are part of the draft from now on.
  Result<std::vector<Manifest::Disk>> disks();
  Result<void> commit();
  void abort();

 private:
  Result<std::string> ask(const std::string& request, std::vector<UniqueFd>* files);

  int socket_;
};

}  // namespace doppel::snapshot
