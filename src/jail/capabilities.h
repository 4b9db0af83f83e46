#pragma once

#include "base/result.h"

namespace doppel::jail {

/// Drops all capabilities of the calling thread, in every set, for good; with `keep_mounting` all but the one that
/// mount() asks for, which is to be dropped by a second call. Threads inherit what their creator has.
Result<void> drop_capabilities(bool keep_mounting);

}  // namespace doppel::jail
