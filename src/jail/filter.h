#pragma once

#include "base/result.h"
#include "jail/allow_list.h"

namespace doppel::jail {

/// Leaves every thread of this process, and those to come, the system calls of the allow list; for good. Sets
/// no_new_privs.
Result<void> install_filter(Needs needs);

}  // namespace doppel::jail
