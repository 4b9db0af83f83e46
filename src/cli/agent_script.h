#pragma once

#include <string>

namespace doppel::cli {

/// A shell script that installs the agent in the guest that it runs in.
std::string agent_script();

/// `doppel agent`: prints it. The exit status.
int print_agent_script();

}  // namespace doppel::cli
