#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace doppel::jail {

/// Opens a directory whose files the machine may reach later on, in its jail. Between Jail::prepare() and Jail::seal(),
/// it is a mount of its own where the kernel permits that: no path leads out of it, and with `read_only` nothing is
/// written through it, whoever holds the descriptor. Elsewhere it is a plain descriptor.
Result<UniqueFd> open_shared_directory(const std::string& path, bool read_only);

}  // namespace doppel::jail
