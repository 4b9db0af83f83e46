#pragma once

#include <string_view>

namespace doppel {

/// "1.2.3", the project's version.
std::string_view version();

}  // namespace doppel
