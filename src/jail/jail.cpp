#include "jail/jail.h"

#include "base/log.h"
#include "jail/capabilities.h"
#include "jail/filter.h"
#include "jail/namespaces.h"

namespace doppel::jail {

Result<Jail> Jail::prepare() {
  const bool own_namespaces = enter_own_namespaces();
  if (!own_namespaces) log::info("jail", "no namespaces of its own here: the system call filter alone hides the files");
  if (Result<void> dropped = drop_capabilities(own_namespaces); !dropped) return dropped.error();
  return Jail(own_namespaces);
}

Result<void> Jail::seal(Needs needs) {
  if (own_namespaces_) {
    // A kernel that permits namespaces but not mounts in them (AppArmor does that) leaves the files visible.
    if (Result<void> emptied = empty_root(); !emptied) {
      log::info("jail", "{}", emptied.error().message);
      own_namespaces_ = false;
    }
    if (Result<void> dropped = drop_capabilities(false); !dropped) return dropped.error();
  }
  return install_filter(needs);
}

}  // namespace doppel::jail
