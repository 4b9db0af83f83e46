#pragma once

#include <string>

#include "base/result.h"

namespace doppel {

/// "<what>: <the system's words for errno>". `error_number` 0 means the current errno.
Error system_error(const std::string& what, int error_number = 0);

}  // namespace doppel
