#pragma once

#include <string>

#include "base/result.h"
#include "machine/config.h"

namespace doppel::cli {

/// The value of --share: HOSTDIR:GUESTDIR[:ro]. The directory is looked at, and opened later, in the jail. `number`
/// makes the tag by which the guest mounts it: share0, share1 …
Result<machine::ShareConfig> parse_share(const std::string& text, unsigned number);

/// What tells the guest's start where to mount it: " doppel.share=TAG:GUESTDIR[:ro]".
std::string share_argument(const machine::ShareConfig& share);

}  // namespace doppel::cli
