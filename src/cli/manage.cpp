#include "cli/manage.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <csignal>
#include <ctime>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

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
/// A process that the host's kernel is writing or syncing for goes when that is done, whatever kills it.
constexpr int kDiskPatienceMs = 120'000;
constexpr int kStopStepMs = 5000;
constexpr std::chrono::minutes kInspectPatience{1};

Result<json> call(const RunningVm& vm, std::string_view method, std::string_view target, std::string_view body,
                  std::chrono::milliseconds patience) {
  const Result<control::HttpResponse> response =
      control::call(vm.paths.control_socket(), method, target, body, patience);
  if (!response) return response.error();
  json parsed = json::parse(response->body, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return Error{"the machine gave no valid answer"};
  return parsed;
}

Result<json> get(const RunningVm& vm, std::string_view target, std::chrono::milliseconds patience) {
  return call(vm, "GET", target, {}, patience);
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

void print_stats(const json& stats, bool as_json) {
  if (as_json) {
    fmt::print("{}\n", stats.dump(2));
  } else {
    print_values(stats, "");
  }
}

/// To a processor's counters, what they say of the time between: millions of instructions a second, and how many of the
/// look-ups in the TLB found something.
void add_rates(json& counters, const json& before, double seconds) {
  const auto since = [&](const char* name) {
    return static_cast<double>(counters.value(name, std::uint64_t{0})) -
           static_cast<double>(before.value(name, std::uint64_t{0}));
  };
  if (!counters.contains("instructions")) return;
  constexpr double kMillion = 1e6;
  counters["mips"] = since("instructions") / seconds / kMillion;
  if (const double lookups = since("tlb_lookups"); lookups > 0) {
    counters["tlb_hit_rate"] = 1 - since("tlb_lookups_failed") / lookups;
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
    complain(fmt::format("{}: its process has been killed, and goes when the host's disk has done what it waits for",
                         vm.name));
    if (control::wait_for_end(vm, kDiskPatienceMs)) return {};
    return Error{fmt::format("{}: process {} has been killed, but has not gone in {} s; the host's disk may hang",
                             vm.name, vm.pid, (kKillPatienceMs + kDiskPatienceMs) / 1000)};
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
  print_stats(*stats, as_json);
  return exit_status::kSuccess;
}

int measure_stats(const std::string& name, bool as_json, unsigned seconds) {
  const Result<RunningVm> vm = find_running(name);
  if (!vm) return fail(vm.error());
  if (is_paused(*vm)) return fail(Error{fmt::format("{0} is paused: doppel resume {0}", vm->name)});
  if (const Result<void> on = send(*vm, "PATCH", "/vm/stats", R"({"counting": true})"); !on) return fail(on.error());
  // What counts has to be translated first.
  std::this_thread::sleep_for(std::chrono::seconds(1));
  const auto begin = std::chrono::steady_clock::now();
  const Result<json> before = get(*vm, "/vm/stats", kInspectPatience);
  std::this_thread::sleep_for(std::chrono::seconds(seconds));
  Result<json> after = get(*vm, "/vm/stats", kInspectPatience);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  const Result<void> off = send(*vm, "PATCH", "/vm/stats", R"({"counting": false})");
  if (!before) return fail(before.error());
  if (!after) return fail(after.error());
  if (!off) return fail(off.error());
  for (auto& [part, counters] : after->items())
    add_rates(counters, before->value(part, json::object()), elapsed.count());
  print_stats(*after, as_json);
  return exit_status::kSuccess;
}

int show_block(const std::string& name, const std::string& address, unsigned cpu) {
  const std::string_view digits = address.starts_with("0x") ? std::string_view(address).substr(2) : address;
  std::uint64_t linear = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), linear, 16);
  if (error != std::errc{} || end != digits.data() + digits.size()) {
    return fail(Error{fmt::format("{}: this is no address; write it in hexadecimal digits", address)});
  }
  const Result<RunningVm> vm = find_running(name);
  if (!vm) return fail(vm.error());
  const json body{{"cpu", cpu}, {"address", linear}};
  const Result<json> answer = call(*vm, "PUT", "/debug/block", body.dump(), kInspectPatience);
  if (!answer) return fail(answer.error());
  const json blocks = answer->value("blocks", json::array());
  if (blocks.empty()) {
    return fail(
        Error{fmt::format("processor {} has no translation of the code at {:#x} as it sees memory now", cpu, linear)});
  }
  for (const json& block : blocks) {
    for (const json& line : block) fmt::print("{}\n", line.get<std::string>());
  }
  return exit_status::kSuccess;
}

}  // namespace doppel::cli
