#pragma once

#include <string>

#include "base/result.h"
#include "machine/config.h"

namespace doppel::cli {

/// The value of --disk: FILE[,format=raw|qcow2][,readonly][,snapshot][,serial=TEXT][,cache=…][,discard=on|off].
Result<machine::DiskConfig> parse_disk(const std::string& text);

}  // namespace doppel::cli
