#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/result.h"
#include "cli/endpoints.h"
#include "cli/from_snapshot.h"
#include "cli/run_options.h"
#include "control/registry.h"

namespace doppel::cli {

/// A name in the runtime directory with its sockets: what others know of a machine.
struct Claim {
  control::Registration registration;
  Endpoints endpoints;

  /// `name` empty: the first that is free.
  static Result<Claim> make(const std::string& runtime, const std::string& name);
};

/// What PUT /snapshot/load has asked for.
struct LoadedStart {
  SnapshotStart start;
  RunOptions options;  ///< those of the waiting machine, and what the request says
};

/// Serves the control socket of a machine that there is not yet, until a snapshot that fits has been named. Nothing:
/// the machine was killed instead.
Result<std::optional<LoadedStart>> await_load(const RunOptions& options, const Claim& claim);

}  // namespace doppel::cli
