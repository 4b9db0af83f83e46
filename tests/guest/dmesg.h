#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace doppel::test {

/// The lines of a Linux log by which a kernel complains of its machine: warnings, unstable clocks, unexpected faults
/// and the like.
std::vector<std::string> odd_lines(std::string_view log);

}  // namespace doppel::test
