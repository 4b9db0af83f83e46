#include "jail/namespaces.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>

#include "base/fd.h"
#include "base/system_error.h"

namespace doppel::jail {
namespace {

bool write_to(const char* path, const std::string& text) {
  const UniqueFd file(::open(path, O_WRONLY | O_CLOEXEC));
  return file.valid() && write_all(file.get(), std::as_bytes(std::span{text})).ok();
}

}  // namespace

bool enter_own_namespaces() {
  const uid_t uid = ::geteuid();
  const gid_t gid = ::getegid();
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  // A number that is not mapped works as well; it would only show as nobody's.
  write_to("/proc/self/setgroups", "deny");
  write_to("/proc/self/uid_map", fmt::format("{0} {0} 1", uid));
  write_to("/proc/self/gid_map", fmt::format("{0} {0} 1", gid));
  // What is mounted here does not show outside.
  return ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

Result<void> empty_root() {
  // Any directory will do to carry the new root for the moment.
  constexpr const char* kCarrier = "/tmp";
  if (::mount("none", kCarrier, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=1,mode=0555") != 0) {
    return system_error("cannot mount an empty root directory");
  }
  if (::chdir(kCarrier) != 0 || ::syscall(SYS_pivot_root, ".", ".") != 0) {
    return system_error("cannot enter the empty root directory");
  }
  // The old root now lies over the new one, at ".".
  if (::umount2(".", MNT_DETACH) != 0) return system_error("cannot leave the old root directory");
  if (::chdir("/") != 0) return system_error("cannot enter the empty root directory");
  if (::mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) !=
      0) {
    return system_error("cannot make the empty root directory read-only");
  }
  return {};
}

}  // namespace doppel::jail
