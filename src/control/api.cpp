#include "control/api.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/version.h"

namespace doppel::control {
namespace {

using nlohmann::json;

HttpResponse ok(const json& body) {
  return {200, body.dump(-1, ' ', false, json::error_handler_t::replace)};
}

HttpResponse done() {
  return {204, {}};
}

/// The body is limited to kMaxRequestBody, and the callback keeps hostile nesting from going deep.
json parse(const std::string& body) {
  const auto shallow = [](int depth, json::parse_event_t, json&) { return depth <= 8; };
  return json::parse(body, shallow, /*allow_exceptions=*/false);
}

/// Firecracker's schemas are strict: one object with exactly this string member.
Result<std::string> string_member(const std::string& body, const char* name) {
  const json parsed = parse(body);
  if (!parsed.is_object() || parsed.size() != 1 || !parsed.contains(name) || !parsed[name].is_string()) {
    return Error{fmt::format("the body must be {{\"{}\": \"…\"}}", name)};
  }
  return parsed[name].get<std::string>();
}

HttpResponse get_instance(const HttpRequest& /*request*/, Vm& vm) {
  return ok({{"app_name", "doppel"}, {"id", vm.name()}, {"state", vm.state()}, {"vmm_version", version()}});
}

HttpResponse get_version(const HttpRequest& /*request*/, Vm& /*vm*/) {
  return ok({{"doppel_version", version()}});
}

HttpResponse get_config(const HttpRequest& /*request*/, Vm& vm) {
  return ok(vm.config());
}

HttpResponse get_machine_config(const HttpRequest& /*request*/, Vm& vm) {
  return ok(vm.config().at("machine-config"));
}

HttpResponse put_action(const HttpRequest& request, Vm& vm) {
  const auto action = string_member(request.body, "action_type");
  if (!action) return fault(400, action.error().message);
  if (*action == "InstanceStart") return fault(400, "the machine has been started already");
  if (*action == "SendCtrlAltDel") {
    vm.send_ctrl_alt_del();
    return done();
  }
  if (*action == "SendBreak") {
    vm.send_break();
    return done();
  }
  // Metrics are never held back: GET /vm/stats reads the counters themselves.
  if (*action == "FlushMetrics") return done();
  return fault(
      400,
      fmt::format("unknown action_type \"{}\": use InstanceStart, SendCtrlAltDel, SendBreak or FlushMetrics", *action));
}

HttpResponse patch_vm(const HttpRequest& request, Vm& vm) {
  const auto state = string_member(request.body, "state");
  if (!state) return fault(400, state.error().message);
  if (*state == "Paused") {
    vm.pause();
  } else if (*state == "Resumed") {
    vm.resume();
  } else {
    return fault(400, fmt::format("unknown state \"{}\": use Paused or Resumed", *state));
  }
  return done();
}

HttpResponse patch_balloon(const HttpRequest& request, Vm& vm) {
  constexpr const char* kAmount = "amount_mib";
  constexpr std::uint64_t kMostMib = std::uint64_t{1} << 24;
  const json body = parse(request.body);
  if (!body.is_object() || body.size() != 1 || !body.contains(kAmount) || !body[kAmount].is_number_unsigned() ||
      body[kAmount].get<std::uint64_t>() > kMostMib) {
    return fault(400, fmt::format("the body must be {{\"{}\": N}}", kAmount));
  }
  if (vm.set_balloon(body[kAmount].get<std::uint64_t>() << 20)) return done();
  return fault(400, "the machine has no balloon: start it with --balloon");
}

HttpResponse put_console_size(const HttpRequest& request, Vm& vm) {
  const json body = parse(request.body);
  const auto number = [&body](const char* name) {
    return body.contains(name) && body[name].is_number_unsigned() && body[name].get<std::uint64_t>() <= UINT16_MAX;
  };
  if (!body.is_object() || body.size() != 2 || !number("columns") || !number("rows")) {
    return fault(400, R"(the body must be {"columns": N, "rows": N})");
  }
  if (vm.set_console_size(body["columns"].get<std::uint16_t>(), body["rows"].get<std::uint16_t>())) return done();
  return fault(400, "the console is a serial port, which has no size: start the machine with --console virtio");
}

HttpResponse put_stop(const HttpRequest& /*request*/, Vm& vm) {
  if (vm.state() == "Paused") return fault(400, "the machine is paused and cannot react; resume it first");
  vm.press_power_button();
  return done();
}

HttpResponse put_kill(const HttpRequest& /*request*/, Vm& vm) {
  vm.kill();
  return done();
}

HttpResponse get_inspect(const HttpRequest& /*request*/, Vm& vm) {
  return ok(vm.inspect());
}

HttpResponse get_stats(const HttpRequest& /*request*/, Vm& vm) {
  return ok(vm.stats());
}

HttpResponse patch_stats(const HttpRequest& request, Vm& vm) {
  const json body = parse(request.body);
  if (!body.is_object() || body.size() != 1 || !body.contains("counting") || !body["counting"].is_boolean()) {
    return fault(400, R"(the body must be {"counting": true} or {"counting": false})");
  }
  vm.set_counting(body["counting"].get<bool>());
  return done();
}

HttpResponse put_debug_block(const HttpRequest& request, Vm& vm) {
  const json body = parse(request.body);
  const auto number = [&body](const char* name, std::uint64_t most) {
    return body.contains(name) && body[name].is_number_unsigned() && body[name].get<std::uint64_t>() <= most;
  };
  if (!body.is_object() || body.size() != 2 || !number("cpu", UINT32_MAX) || !number("address", UINT64_MAX)) {
    return fault(400, R"(the body must be {"cpu": N, "address": N})");
  }
  const auto cpu = body["cpu"].get<unsigned>();
  const std::optional<json> blocks = vm.describe_code(cpu, body["address"].get<std::uint64_t>());
  if (!blocks) return fault(400, fmt::format("there is no processor {}", cpu));
  return ok({{"blocks", *blocks}});
}

HttpResponse put_snapshot_create(const HttpRequest& request, Vm& vm) {
  const auto shallow = [](int depth, json::parse_event_t, json&) { return depth <= 8; };
  const json body = json::parse(request.body, shallow, /*allow_exceptions=*/false);
  if (!body.is_object()) return fault(400, R"(the body must be {"tag": "…"})");
  snapshot::CreateOptions options;
  for (const auto& [key, value] : body.items()) {
    if (key == "tag" && value.is_string()) {
      options.tag = value.get<std::string>();
    } else if (key == "snapshot_type" && (value == "Full" || value == "Diff")) {
      options.full = value == "Full";
    } else if (key == "snapshot_path" || key == "mem_file_path") {
      return fault(400, "a machine in its jail opens no files: name the snapshot by its tag");
    } else {
      return fault(400, fmt::format("unknown or wrong member {}: there are tag and snapshot_type", key));
    }
  }
  if (options.tag.empty()) return fault(400, R"(the body must be {"tag": "…"})");
  HttpResponse response;
  response.later = [&vm, options](const std::function<void(HttpResponse)>& answer) {
    const Result<void> begun =
        vm.snapshot(options, [answer, tag = options.tag](const Result<snapshot::CreateReport>& report) {
          if (!report) return answer(fault(400, report.error().message));
          using std::chrono::microseconds;
          answer(ok({{"tag", tag},
                     {"stopped_us", std::chrono::duration_cast<microseconds>(report->stopped).count()},
                     {"stored_bytes", report->stored_bytes},
                     {"incremental", report->incremental}}));
        });
    if (!begun) answer(fault(400, begun.error().message));
  };
  return response;
}

HttpResponse put_snapshot_load(const HttpRequest& request, Vm& vm) {
  constexpr const char* kForm =
      R"(the body must be {"tag": "…"} or {"snapshot": "MACHINE:TAG"}, and may have resume_vm)";
  const json body = parse(request.body);
  if (!body.is_object()) return fault(400, kForm);
  LoadRequest load;
  for (const auto& [key, value] : body.items()) {
    if (key == "tag" && value.is_string()) {
      load.tag = value.get<std::string>();
    } else if (key == "snapshot" && value.is_string()) {
      load.snapshot = value.get<std::string>();
    } else if (key == "resume_vm" && value.is_boolean()) {
      load.resume = value.get<bool>();
    } else if (key == "snapshot_path" || key == "mem_file_path" || key == "mem_backend") {
      return fault(400, "snapshots have names here: give a tag, or a snapshot as MACHINE:TAG");
    } else {
      return fault(400, fmt::format("unknown or wrong member {}: there are tag, snapshot and resume_vm", key));
    }
  }
  if (load.tag.empty() == load.snapshot.empty()) return fault(400, kForm);
  const Result<void> loaded = vm.load(load);
  return loaded ? done() : fault(400, loaded.error().message);
}

HttpResponse get_snapshot(const HttpRequest& /*request*/, Vm& vm) {
  const snapshot::Snapshotter::Progress progress = vm.snapshot_progress();
  return ok({{"active", progress.active}, {"pages", progress.pages}, {"pages_done", progress.pages_done}});
}

struct Route {
  std::string_view method;
  std::string_view target;
  HttpResponse (*handler)(const HttpRequest&, Vm&);
};

constexpr std::array<Route, 17> kRoutes{{
    {"GET", "/", get_instance},
    {"GET", "/version", get_version},
    {"GET", "/vm/config", get_config},
    {"GET", "/machine-config", get_machine_config},
    {"PUT", "/actions", put_action},
    {"PATCH", "/vm", patch_vm},
    {"PATCH", "/balloon", patch_balloon},
    {"PUT", "/console/size", put_console_size},
    {"PUT", "/vm/stop", put_stop},
    {"PUT", "/vm/kill", put_kill},
    {"GET", "/vm/inspect", get_inspect},
    {"GET", "/vm/stats", get_stats},
    {"PATCH", "/vm/stats", patch_stats},
    {"PUT", "/debug/block", put_debug_block},
    {"PUT", "/snapshot/create", put_snapshot_create},
    {"PUT", "/snapshot/load", put_snapshot_load},
    {"GET", "/snapshot", get_snapshot},
}};

}  // namespace

HttpResponse answer(const HttpRequest& request, Vm& vm) {
  bool known_target = false;
  for (const Route& route : kRoutes) {
    if (route.target != request.target) continue;
    if (route.method == request.method) return route.handler(request, vm);
    known_target = true;
  }
  if (known_target) return fault(405, fmt::format("{} does not know the method {}", request.target, request.method));
  return fault(404, fmt::format("there is no {}", request.target));
}

}  // namespace doppel::control
