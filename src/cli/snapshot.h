#pragma once

#include <functional>
#include <memory>

namespace CLI {
class App;
}

namespace doppel::cli {

/// Adds `snapshot` and its subcommands, like add_image_commands().
std::shared_ptr<void> add_snapshot_commands(CLI::App& app, std::function<int()>& action);

}  // namespace doppel::cli
