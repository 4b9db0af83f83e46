#include "cli/await_load.h"

#include <fcntl.h>

#include <array>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "base/system_error.h"
#include "control/api.h"
#include "control/event_loop.h"
#include "control/server.h"
#include "control/vm.h"

namespace doppel::cli {
namespace {

constexpr const char* kNotStarted = "the machine has not been started: name a snapshot with PUT /snapshot/load";

/// A machine that there is not yet.
class AwaitedVm : public control::Vm {
 public:
  /// `listener` is where `loop` waits for connections.
  AwaitedVm(const RunOptions& options, std::string name, control::EventLoop& loop, int listener)
      : options_(options), name_(std::move(name)), loop_(loop), listener_(listener) {}

  std::string name() const override { return name_; }
  std::string state() const override { return "Not started"; }
  nlohmann::json config() const override { return {{"machine-config", {{"vcpu_count", 0}, {"mem_size_mib", 0}}}}; }
  nlohmann::json inspect() override { return nlohmann::json::object(); }
  nlohmann::json stats() override { return nlohmann::json::object(); }
  void set_counting(bool /*counting*/) override {}
  std::optional<nlohmann::json> describe_code(unsigned /*vcpu*/, std::uint64_t /*linear*/) override { return {}; }
  void pause() override {}
  void resume() override {}
  void press_power_button() override {}
  void send_ctrl_alt_del() override {}
  void send_break() override {}
  bool set_console_size(std::uint16_t /*columns*/, std::uint16_t /*rows*/) override { return false; }
  bool set_balloon(std::uint64_t /*bytes*/) override { return false; }
  void kill() override { quit(); }
  Result<void> snapshot(snapshot::CreateOptions /*options*/, snapshot::Snapshotter::Done /*done*/) override {
    return Error{kNotStarted};
  }
  snapshot::Snapshotter::Progress snapshot_progress() const override { return {}; }

  Result<void> load(const control::LoadRequest& request) override {
    if (result_) return Error{"a snapshot is being loaded already"};
    RunOptions options = options_;
    options.name = name_;
    options.restore = request.snapshot.empty();
    options.from = request.snapshot.empty() ? name_ : request.snapshot;
    if (!request.tag.empty()) options.from += ":" + request.tag;
    options.start_paused = !request.resume;
    Result<SnapshotStart> start = make_config_from_snapshot(options);
    if (!start) return start.error();
    result_.emplace(LoadedStart{*std::move(start), std::move(options)});
    quit();
    return {};
  }

  std::optional<LoadedStart> take_result() { return std::move(result_); }

 private:
  /// Once the answer to what asks for it has been sent. Who connects from now on is the machine's.
  void quit() {
    loop_.forget(listener_);
    loop_.post([this] { loop_.quit(); });
  }

  const RunOptions& options_;
  const std::string name_;
  control::EventLoop& loop_;
  const int listener_;
  std::optional<LoadedStart> result_;
};

/// What makes sense before there is a machine.
control::HttpResponse answer_early(const control::HttpRequest& request, control::Vm& vm) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kKnown{
      {{"GET", "/"}, {"GET", "/version"}, {"GET", "/vm/config"}, {"PUT", "/snapshot/load"}, {"PUT", "/vm/kill"}}};
  for (const auto& [method, target] : kKnown) {
    if (request.method == method && request.target == target) return control::answer(request, vm);
  }
  return control::fault(400, kNotStarted);
}

}  // namespace

Result<Claim> Claim::make(const std::string& runtime, const std::string& name) {
  Result<control::Registration> registration = control::Registry(runtime).claim(name);
  if (!registration) return registration.error();
  Result<Endpoints> endpoints = Endpoints::open(registration->paths());
  if (!endpoints) return Error{endpoints.error().message, /*of_host=*/true};
  return Claim{*std::move(registration), *std::move(endpoints)};
}

Result<std::optional<LoadedStart>> await_load(const RunOptions& options, const Claim& claim) {
  Result<std::unique_ptr<control::EventLoop>> loop = control::EventLoop::create();
  if (!loop) return loop.error();
  // The machine will listen there, too: who comes in between waits for it.
  UniqueFd listener(::fcntl(claim.endpoints.control_socket.get(), F_DUPFD_CLOEXEC, 0));
  if (!listener.valid()) return system_error("cannot serve the control socket");
  AwaitedVm vm(options, claim.registration.name(), **loop, listener.get());
  const control::HttpServer server(**loop, std::move(listener),
                                   [&vm](const control::HttpRequest& request) { return answer_early(request, vm); });
  (*loop)->run();
  return vm.take_result();
}

}  // namespace doppel::cli
