#pragma once

#include <functional>
#include <memory>

namespace CLI {
class App;
}

namespace doppel::cli {

/// Adds `image` and its subcommands; parsing one of them sets `action` to what it does. What is returned holds the
/// options' values and must live until the action is done.
std::shared_ptr<void> add_image_commands(CLI::App& app, std::function<int()>& action);

}  // namespace doppel::cli
