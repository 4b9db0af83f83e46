#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "machine/config.h"
#include "snapshot/manifest.h"

namespace doppel::snapshot {

/// What a manifest says of a machine, for one that has not run yet. Names of files become absolute.
Manifest describe_machine(const machine::MachineConfig& config);

/// The machine that goes on from a snapshot, but for what is the host's: its saved state, sockets, the engine. Taps are
/// opened by whoever may.
Result<machine::MachineConfig> config_of(const Manifest& manifest);

/// The disks of such a machine, whose changes go when it ends (DiskStore knows better). `directory`: the snapshot's.
std::vector<machine::DiskConfig> disks_of(const Manifest& manifest, const std::string& directory);

/// Says why this machine cannot be saved (yet); nothing otherwise.
Result<void> can_be_saved(const machine::MachineConfig& config);

}  // namespace doppel::snapshot
