#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "machine/config.h"

namespace doppel::cli {

/// The values of --net: user[,publish=[ADDRESS:]HOST:GUEST[/udp]]...[,restrict][,mac=MAC] | tap,ifname=NAME[,mac=MAC] |
/// none; and those of --mac, the first for the first card.
Result<std::vector<machine::NetworkConfig>> parse_networks(const std::vector<std::string>& nets,
                                                           const std::vector<std::string>& macs);

}  // namespace doppel::cli
