#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace doppel::control {

/// The user's directory of running VMs: $XDG_RUNTIME_DIR/doppel, else /run/user/<uid>/doppel, else /tmp/doppel-<uid>.
/// Created with mode 0700; refused when it is another user's, or open to others.
Result<std::string> runtime_directory();

/// Where a VM keeps what belongs to it while it lives: <runtime directory>/<name>/.
struct VmPaths {
  std::string directory;
  std::string pid() const { return directory + "/pid"; }
  std::string control_socket() const { return directory + "/control.sock"; }
  std::string console_socket() const { return directory + "/console.sock"; }
  /// Leads to the guest's vsock ports.
  std::string vsock_socket() const { return directory + "/vsock.sock"; }
  /// Where a program of the host listens for the guest's connections to that port of the host.
  std::string vsock_socket(std::uint32_t host_port) const { return vsock_socket() + "_" + std::to_string(host_port); }
  std::string console_log() const { return directory + "/console.log"; }
  /// The other half of the console's log (console_log.h).
  std::string other_console_log() const { return directory + "/console.log.1"; }
};

/// The name of a VM as claimed by the process that runs it. The process holds a lock on the pid file, by which
/// everybody sees whether it lives, whatever way it ends; what it leaves behind is for Registry::clean(), because at
/// its end a machine in its jail sees no files any more.
class Registration {
 public:
  const std::string& name() const { return name_; }
  const VmPaths& paths() const { return paths_; }

 private:
  friend class Registry;
  Registration(std::string name, VmPaths paths, UniqueFd pid_file);
  Result<void> record_pid();

  std::string name_;
  VmPaths paths_;
  UniqueFd pid_file_;
};

struct RunningVm {
  std::string name;
  pid_t pid;
  std::int64_t started;  ///< seconds since the epoch
  VmPaths paths;
};

/// All VMs of this user, by scanning the directory. Entries whose process is gone are removed on the way.
class Registry {
 public:
  /// `runtime` as from runtime_directory().
  explicit Registry(std::string runtime) : runtime_(std::move(runtime)) {}

  /// For the calling process, which does not fork afterwards: a child would hold the lock as well. `name` empty: the
  /// first free one of vm1, vm2 …
  Result<Registration> claim(std::string_view name);
  Result<std::vector<RunningVm>> list();
  Result<RunningVm> find(std::string_view name);
  /// Removes the entries whose process is gone.
  void clean() { static_cast<void>(list()); }

 private:
  VmPaths paths_of(std::string_view name) const { return {runtime_ + "/" + std::string(name)}; }

  std::string runtime_;
};

/// Names become directories and host names: letters, digits, '-', '_' and '.', at most 63, a letter or digit first.
Result<void> check_vm_name(std::string_view name);

/// Waits until the VM's process has gone; false when `patience_ms` have passed before.
bool wait_for_end(const RunningVm& vm, int patience_ms);

}  // namespace doppel::control
