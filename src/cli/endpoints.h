#pragma once

#include "base/fd.h"
#include "base/result.h"
#include "control/console_log.h"
#include "control/registry.h"

namespace doppel::cli {

/// What a machine offers to other processes, and all that has a path: opened before the jail closes.
struct Endpoints {
  UniqueFd control_socket;
  UniqueFd console_socket;
  control::ConsoleLog console_log;

  static Result<Endpoints> open(const control::VmPaths& paths);
};

}  // namespace doppel::cli
