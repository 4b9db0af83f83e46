#include "base/state_directory.h"

#include <cstdlib>
#include <filesystem>

namespace doppel {

Result<std::string> state_directory() {
  const char* const state = std::getenv("XDG_STATE_HOME");
  const char* const home = std::getenv("HOME");
  std::filesystem::path directory;
  if (state != nullptr && *state == '/') {
    directory = state;
  } else if (home != nullptr && *home == '/') {
    directory = std::filesystem::path(home) / ".local/state";
  } else {
    return Error{"no place for what outlives a machine: set HOME"};
  }
  directory /= "doppel";
  return directory.string();
}

}  // namespace doppel
