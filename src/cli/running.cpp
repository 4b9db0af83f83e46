#include "cli/running.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "control/client.h"

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

bool is_paused(const control::RunningVm& vm) {
  constexpr std::chrono::seconds kPatience{2};
  const auto response = control::call(vm.paths.control_socket(), "GET", "/", {}, kPatience);
  if (!response) return false;
  const auto instance = nlohmann::json::parse(response->body, nullptr, /*allow_exceptions=*/false);
  return instance.is_object() && instance.contains("state") && instance["state"] == "Paused";
}

}  // namespace doppel::cli
