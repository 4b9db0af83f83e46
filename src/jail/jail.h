#pragma once

#include <cstdint>

#include "base/result.h"
#include "jail/allow_list.h"

/// What a process takes from itself before it runs a guest, so that a guest that takes over its monitor has gained
/// little (DESIGN 5): its privileges, the file system, and all system calls but those of allow_list.h. Everything that
/// has a path, and every descriptor that needs a right, is opened before.
///
/// The steps are two because a user namespace can only be entered by a process without threads, and a machine has
/// threads long before its first instruction.
namespace doppel::jail {

/// Before the first thread: gives up all privileges of the host's for good, and prepares for seal(). Where the kernel
/// permits it, the process goes into a user and a mount namespace of its own; elsewhere, as in many containers, it
/// stays outside and keeps seeing its files, which seal() then leaves it no system call to open. The only error is that
/// privileges cannot be dropped.
class Jail {
 public:
  static Result<Jail> prepare();

  /// After everything has been opened, before the guest's first instruction: an empty root directory, no capability,
  /// no new privileges, and from here on, for all threads of the process, the system calls that `needs` allow. (Threads
  /// begun since prepare() keep the right to mount in the process's own namespace; no allowed call makes use of it.)
  Result<void> seal(Needs needs);

  /// The root directory is an empty one, after seal().
  bool has_empty_root() const { return own_namespaces_; }

 private:
  explicit Jail(bool own_namespaces) : own_namespaces_(own_namespaces) {}

  bool own_namespaces_;
};

}  // namespace doppel::jail
