#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace doppel::machine {

struct MachineConfig;

/// State as Machine::save() takes it down. The clock is apart because a machine needs its reading before it has
/// devices.
struct SavedState {
  std::vector<std::byte> clock;
  std::vector<std::byte> components;  ///< processors and devices, by name
};

/// What a new machine goes on from instead of booting. Hostile: a machine refuses what cannot be.
struct SavedMachine {
  SavedState state;
  /// RAM: what is in none of these pieces is zero, and a later piece lies over an earlier one. The pages are numbered
  /// as by GuestMemory::page_index.
  struct RamPiece {
    std::shared_ptr<const UniqueFd> file;
    std::uint64_t offset;  ///< in the file, in bytes
    std::uint64_t page;
    std::uint64_t bytes;
  };
  std::vector<RamPiece> ram;
  /// Reads what a reset of the guest boots again; may run in the jail.
  std::function<Result<void>(MachineConfig&)> load_boot_files;
};

}  // namespace doppel::machine
