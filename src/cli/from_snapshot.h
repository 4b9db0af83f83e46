#pragma once

#include "base/result.h"
#include "cli/run_options.h"
#include "machine/config.h"
#include "snapshot/manifest.h"

namespace doppel::cli {

/// A machine that goes on from a snapshot, and which it is.
struct SnapshotStart {
  machine::MachineConfig config;
  snapshot::Manifest manifest;
};

/// Like make_config, for options.from: what the user says besides must fit what was saved. Opens all files.
Result<SnapshotStart> make_config_from_snapshot(const RunOptions& options);

}  // namespace doppel::cli
