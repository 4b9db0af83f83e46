#pragma once

#include "cli/run_options.h"

namespace doppel::cli {

/// `doppel run`: builds the machine and stays with it, or with --detach until it runs. The exit status.
int run(const RunOptions& options);

}  // namespace doppel::cli
