#pragma once

#include "base/result.h"

namespace doppel::jail {

/// Puts this process, which has no threads yet, into a user and a mount namespace of its own, under its own user and
/// group numbers. False where the kernel, or a container around us, does not permit it; then nothing has changed.
bool enter_own_namespaces();

/// Inside such namespaces: makes an empty, read-only directory the root of every thread of the process.
Result<void> empty_root();

}  // namespace doppel::jail
