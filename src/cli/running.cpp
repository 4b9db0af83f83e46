#include "cli/running.h"

#include <utility>

namespace doppel::cli {

Result<std::vector<control::RunningVm>> list_running() {
  Result<std::string> runtime = control::runtime_directory();
  if (!runtime) return runtime.error();
  return control::Registry(*std::move(runtime)).list();
}

Result<control::RunningVm> find_running(const std::string& name) {
  Result<std::string> runtime = control::runtime_directory();
  if (!runtime) return runtime.error();
  return control::Registry(*std::move(runtime)).find(name);
}

}  // namespace doppel::cli
