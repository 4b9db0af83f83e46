#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "cli/run_options.h"
#include "snapshot/manifest.h"

namespace doppel::cli {

struct WarmOptions {
  std::string machine;
  std::string tag;
  std::string engine = "auto";
  unsigned number = 1;
  bool refill = false;  ///< as many as were asked for last; none, if nobody has
  bool quiet = false;
};

/// `doppel snapshot warm`: sees to it that so many machines wait at a snapshot for `doppel run --from -c`, paused, with
/// their guest's first steps behind them. 0 ends them.
int warm_machines(const WarmOptions& options);

/// A machine that waited at a snapshot and is the caller's now: it runs, and ends when this process has ended, whatever
/// way; another then takes its place. Nothing: none waits, or the options do not fit the snapshot.
std::optional<std::string> take_warm_machine(const RunOptions& options);

/// Ends those that wait at a snapshot which is to go.
void end_warm_machines(const snapshot::Manifest& manifest);

}  // namespace doppel::cli
