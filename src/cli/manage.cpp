#include "cli/manage.h"

#include <fmt/format.h>

#include <csignal>
#include <ctime>
#include <functional>
#include <nlohmann/json.hpp>

#include "cli/agent_client.h"
#include "cli/exit_status.h"
#include "cli/message.h"
#include "cli/running.h"
#include "cli/units.h"
#include "control/client.h"
#include "control/registry.h"

namespace doppel::cli {
namespace {

using control::RunningVm;
using nlohmann::json;

constexpr auto kListPatience = std::chrono::seconds(2);
constexpr int kKillPatienceMs = 5000;
constexpr int kStopStepMs = 5000;
constexpr std::chrono::minutes kInspectPatience{1};

Result<json> get(const RunningVm& vm, std::string_view target, std::chrono::milliseconds patience) {
  const Result<control::HttpResponse> response = control::call(vm.paths.control_socket(), "GET", target, {}, patience);
  if (!response) return response.error();
  json parsed = json::parse(response->body, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return Error{"the machine gave no valid answer"};
  return parsed;
}

/// One line of ps. A machine that does not answer is listed all the same.
json describe(const RunningVm& vm) {
  json entry{{"name", vm.name}, {"pid", vm.pid}, {"started", vm.started}, {"state", "Unresponsive"}};
  const Result<json> instance = get(vm, "/", kListPatience);
  const Result<json> config = instance ? get(vm, "/vm/config", kListPatience) : instance;
  if (!config) return entry;
  const json machine = config->value("machine-config", json::object());
  entry["state"] = instance->value("state", "");
  entry["cpus"] = machine.value("vcpu_count", 0);
  entry["memory_mib"] = machine.value("mem_size_mib", 0);
  entry["engine"] = config->value("engine", "");
  entry["kernel"] = config->value("boot-source", json::object()).value("kernel_image_path", "");
  return entry;
}

void print_table(const json& entries) {
  constexpr const char* kLine = "{:<20} {:<12} {:>4} {:>7} {:<7} {:>7} {:>8}  {}\n";
  fmt::print(kLine, "NAME", "STATE", "CPUS", "MEMORY", "ENGINE", "AGE", "PID", "KERNEL");
  const std::int64_t now = std::time(nullptr);
  for (const json& entry : entries) {
    const std::uint64_t memory = entry.value("memory_mib", std::uint64_t{0}) << 20;
    fmt::print(kLine, entry.value("name", ""), entry.value("state", ""), entry.value("cpus", 0), format_size(memory),
               entry.value("engine", ""), format_age(now - entry.value("started", now)), entry.value("pid", 0),
               entry.value("kernel", ""));
  }
}

/// Does `work` for each name; a failure is told and does not keep the others from their turn.
int for_each_machine(const std::vector<std::string>& names, const std::function<Result<void>(const RunningVm&)>& work) {
  int status = exit_status::kSuccess;
  for (const std::string& name : names) {
    const Result<RunningVm> vm = find_running(name);
    const Result<void> done = vm ? work(*vm) : Result<void>(vm.error());
    if (done) continue;
    complain(done.error().message);
    status = exit_status::kFailure;
  }
  return status;
}

Result<void> send(const RunningVm& vm, std::string_view method, std::string_view target, std::string_view body = {}) {
  const Result<control::HttpResponse> response = control::call(vm.paths.control_socket(), method, target, body);
  if (!response) return Error{fmt::format("{}: {}", vm.name, response.error().message)};
  return {};
}

int fail(const Error& error) {
  complain(error.message);
  return exit_status::kFailure;
}

void print_values(const json& value, const std::string& path) {
  if (value.is_structured()) {
    for (const auto& [key, inner] : value.items()) {
      print_values(inner, path.empty() ? key : fmt::format("{}.{}", path, key));
    }
  } else {
    fmt::print("{:<40} {}\n", path, value.is_string() ? value.get<std::string>() : value.dump());
  }
}

}  // namespace

int list_machines(bool as_json, bool names_only) {
  const Result<std::vector<RunningVm>> running = list_running();
  if (!running) return fail(running.error());
  if (names_only) {
    for (const RunningVm& vm : *running) fmt::print("{}\n", vm.name);
    return exit_status::kSuccess;
  }
  json entries = json::array();
  for (const RunningVm& vm : *running) entries.push_back(describe(vm));
  if (as_json) {
    fmt::print("{}\n", entries.dump(2));
  } else {
    print_table(entries);
  }
  return exit_status::kSuccess;
}

int stop_machines(const std::vector<std::string>& names, unsigned timeout_s) {
  return for_each_machine(names, [timeout_s](const RunningVm& vm) -> Result<void> {
    if (auto sent = send(vm, "PUT", "/vm/stop"); !sent) return sent;
    // A guest that is still booting does not listen to its button yet; its agent may.
    int left_ms = static_cast<int>(timeout_s * 1000);
    for (; left_ms > kStopStepMs; left_ms -= kStopStepMs) {
      if (control::wait_for_end(vm, kStopStepMs)) return {};
      if (!power_off_by_agent(vm)) static_cast<void>(send(vm, "PUT", "/vm/stop").ok());
    }
    if (control::wait_for_end(vm, left_ms)) return {};
    return Error{
        fmt::format("{} is still running after {} s: its guest may not react to the power button; doppel kill {} "
                    "ends it without asking",
                    vm.name, timeout_s, vm.name)};
  });
}

int kill_machines(const std::vector<std::string>& names) {
  return for_each_machine(names, [](const RunningVm& vm) -> Result<void> {
    if (send(vm, "PUT", "/vm/kill") && control::wait_for_end(vm, kKillPatienceMs)) return {};
    if (vm.pid > 1) ::kill(vm.pid, SIGKILL);
    if (control::wait_for_end(vm, kKillPatienceMs)) return {};
    return Error{fmt::format("cannot end {}: process {} does not go away", vm.name, vm.pid)};
  });
}

int pause_machines(const std::vector<std::string>& names) {
  return for_each_machine(names, [](const RunningVm& vm) { return send(vm, "PATCH", "/vm", R"({"state":"Paused"})"); });
}

int resume_machines(const std::vector<std::string>& names) {
  return for_each_machine(names,
                          [](const RunningVm& vm) { return send(vm, "PATCH", "/vm", R"({"state":"Resumed"})"); });
}

int inspect_machine(const std::string& name) {
  const Result<RunningVm> vm = find_running(name);
  if (!vm) return fail(vm.error());
  const Result<json> config = get(*vm, "/vm/config", kInspectPatience);
  if (!config) return fail(config.error());
  const Result<json> instance = get(*vm, "/", kInspectPatience);
  if (!instance) return fail(instance.error());
  const Result<json> inside = get(*vm, "/vm/inspect", kInspectPatience);
  if (!inside) return fail(inside.error());
  const json all{{"name", vm->name},
                 {"pid", vm->pid},
                 {"started", vm->started},
                 {"state", instance->value("state", "")},
                 {"control_socket", vm->paths.control_socket()},
                 {"console_socket", vm->paths.console_socket()},
                 {"config", *config},
                 {"machine", *inside}};
  fmt::print("{}\n", all.dump(2));
  return exit_status::kSuccess;
}

int show_stats(const std::string& name, bool as_json) {
  const Result<RunningVm> vm = find_running(name);
  if (!vm) return fail(vm.error());
  const Result<json> stats = get(*vm, "/vm/stats", kInspectPatience);
  if (!stats) return fail(stats.error());
  if (as_json) {
    fmt::print("{}\n", stats->dump(2));
  } else {
    print_values(*stats, "");
  }
  return exit_status::kSuccess;
}

}  // namespace doppel::cli
