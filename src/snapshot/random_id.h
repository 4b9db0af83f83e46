#pragma once

#include <string>

namespace doppel::snapshot {

/// Sixteen hexadecimal digits that nobody has had before.
std::string random_id();

}  // namespace doppel::snapshot
