#pragma once

#include <string>

namespace doppel::cli {

/// `doppel logs`: what a running machine's console has shown, as far as it is kept; with `follow` also what comes,
/// until the machine ends. The exit status.
int print_logs(const std::string& name, bool follow);

}  // namespace doppel::cli
