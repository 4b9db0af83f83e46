#pragma once

#include <string>

namespace CLI {
class App;
}

namespace doppel::cli {

/// A completion script for "bash", "zsh" or "fish", made of the commands and options that `app` has.
std::string completion_script(const CLI::App& app, const std::string& shell);

}  // namespace doppel::cli
