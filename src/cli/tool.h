#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace doppel::cli {

/// Runs a program of the host's, found in PATH or in the directories of the administrator's programs, without standard
/// input, and gives each line that it prints on either output to `on_line`. Its exit status, 128 + N when signal N
/// ended it. Ctrl-C is for the program: this process goes on. For processes with one thread.
Result<int> run_tool(const std::vector<std::string>& arguments, const std::function<void(std::string_view)>& on_line);

/// Whether there is a program of that name where run_tool looks.
bool has_tool(const std::string& name);

}  // namespace doppel::cli
