#pragma once

#include <string>

namespace doppel::cli {

/// `doppel console`: connects this terminal, or these pipes, to a running machine's console until the machine ends or
/// the user leaves. The exit status.
int attach_console(const std::string& name);

}  // namespace doppel::cli
