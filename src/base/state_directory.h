#pragma once

#include <string>

#include "base/result.h"

namespace doppel {

/// Where what outlives a machine is kept: $XDG_STATE_HOME/doppel, else ~/.local/state/doppel. May not be there yet.
Result<std::string> state_directory();

}  // namespace doppel
