#include "jail/capabilities.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/system_error.h"

namespace doppel::jail {

Result<void> drop_capabilities(bool keep_mounting) {
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  // Refused to a process that has no capabilities: then there is nothing that a new program could get from this set.
  for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  }
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  if (keep_mounting) sets[0].permitted = sets[0].effective = 1U << CAP_SYS_ADMIN;
  if (::syscall(SYS_capset, &header, sets.data()) != 0) return system_error("cannot drop privileges");
  return {};
}

}  // namespace doppel::jail
