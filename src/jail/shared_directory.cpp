#include "jail/shared_directory.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/system_error.h"

namespace doppel::jail {

Result<UniqueFd> open_shared_directory(const std::string& path, bool read_only) {
  const int tree = static_cast<int>(
      ::syscall(SYS_open_tree, AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE));
  if (tree >= 0) {
    UniqueFd directory(tree);
    struct mount_attr attributes {};
    attributes.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (read_only ? MOUNT_ATTR_RDONLY : 0);
    if (::syscall(SYS_mount_setattr, directory.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes,
                  sizeof attributes) != 0) {
      log::info("jail", "{}", system_error("cannot restrict the mount of " + path).message);
    }
    return directory;
  }
  log::info("jail", "{}: what is above it stays within reach of this process",
            system_error("no mount of " + path).message);
  UniqueFd directory(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return system_error("cannot open " + path);
  return directory;
}

}  // namespace doppel::jail
