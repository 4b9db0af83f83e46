#include "cli/warm_pool.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/system_error.h"
#include "cli/agent_client.h"
#include "cli/exec.h"
#include "cli/exit_status.h"
#include "cli/guardian.h"
#include "cli/manage.h"
#include "cli/message.h"
#include "cli/run.h"
#include "cli/running.h"
#include "control/client.h"
#include "control/registry.h"
#include "snapshot/random_id.h"
#include "snapshot/store.h"

namespace doppel::cli {
namespace {

namespace fs = std::filesystem;
using snapshot::Manifest;

constexpr std::chrono::seconds kPatience{5};
/// What a first command teaches the translator of kernel, agent and shell; the second finds little new.
constexpr unsigned kRehearsals = 2;
constexpr const char* kWanted = ".wanted";
constexpr const char* kTurn = ".turn";

int fail(const Error& error, int status = exit_status::kFailure) {
  complain(error.message);
  return status;
}

/// Has a file for each machine that waits, with its name; whoever removes it has the machine.
Result<std::string> pool_of(const Manifest& manifest, const std::string& engine) {
  const Result<std::string> runtime = control::runtime_directory();
  if (!runtime) return runtime.error();
  return fmt::format("{}/.warm/{}-{}", *runtime, manifest.id, engine);
}

std::vector<std::string> waiting_in(const std::string& pool) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(pool, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with('.')) continue;
    if (find_running(name)) {
      names.push_back(name);
    } else {
      ::unlink(entry.path().c_str());
    }
  }
  return names;
}

bool take(const std::string& pool, const std::string& name) {
  return ::unlink((pool + "/" + name).c_str()) == 0;
}

Result<void> set_state(const std::string& name, const char* state) {
  const Result<control::RunningVm> vm = find_running(name);
  if (!vm) return vm.error();
  const std::string body = fmt::format(R"({{"state": "{}"}})", state);
  const auto response = control::call(vm->paths.control_socket(), "PATCH", "/vm", body, kPatience);
  return response ? Result<void>() : response.error();
}

int start_one(const WarmOptions& options, const std::string& pool) {
  RunOptions run_options;
  run_options.from = options.machine + ":" + options.tag;
  run_options.engine = options.engine;
  run_options.name = "warm-" + snapshot::random_id().substr(0, 8);
  run_options.detach = true;
  run_options.quiet = true;
  run_options.renewed_by_caller = true;
  if (const int status = run(run_options); status != exit_status::kSuccess) return status;
  const std::string& name = run_options.name;
  for (unsigned i = 0; i < kRehearsals; ++i) {
    const int status = exec_in_guest({.name = name, .command = {"sh", "-c", "true"}, .renewal = Renewal{}});
    if (status == exit_status::kSuccess) continue;
    kill_machines({name});
    return status;
  }
  if (Result<void> paused = set_state(name, "Paused"); !paused) return fail(paused.error());
  // No pool any more: the snapshot has been deleted, or nobody is to wait, by now.
  if (const UniqueFd entry(::open((pool + "/" + name).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)); !entry.valid()) {
    return kill_machines({name});
  }
  if (!options.quiet) fmt::print("{}\n", name);
  return exit_status::kSuccess;
}

unsigned wanted_in(const std::string& pool) {
  unsigned number = 0;
  std::ifstream(pool + "/" + kWanted) >> number;
  return number;
}

/// In a process whose descriptors are all closed.
void end_and_replace(const std::string& name, const Manifest& manifest, const std::string& engine) {
  for (int i = 0; i < 3; ++i) static_cast<void>(::open("/dev/null", O_RDWR));
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGTTOU}) std::signal(number, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
  kill_machines({name});
  ::execl("/proc/self/exe", "doppel", "snapshot", "warm", manifest.machine.c_str(), manifest.tag.c_str(), "-q",
          "--refill", "--engine", engine.c_str(), nullptr);
}

}  // namespace

int warm_machines(const WarmOptions& asked) {
  WarmOptions options = asked;
  const Result<snapshot::Store> store = snapshot::Store::of_user();
  if (!store) return fail(store.error());
  const Result<Manifest> manifest = store->find({options.machine, options.tag});
  if (!manifest) return fail(manifest.error());
  options.tag = manifest->tag;
  if (!manifest->vsock) return fail(Error{"the machine of this snapshot has no agent that would run a command"});
  const Result<std::string> pool = pool_of(*manifest, options.engine);
  if (!pool) return fail(pool.error());
  std::error_code error;
  if (!options.refill) fs::create_directories(*pool, error);
  if (error) return fail(Error{fmt::format("cannot create {}: {}", *pool, error.message())});
  // One after the other, so that together they do not start more than are wanted.
  const UniqueFd turn(::open((*pool + "/" + kTurn).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  if (!turn.valid() && options.refill) return exit_status::kSuccess;
  struct flock whole {};
  whole.l_type = F_WRLCK;  // of this kind, since the machines that are started here do not inherit it
  if (!turn.valid() || ::fcntl(turn.get(), F_SETLKW, &whole) != 0) return fail(system_error("cannot lock " + *pool));
  if (options.refill) options.number = wanted_in(*pool);
  std::ofstream(*pool + "/" + kWanted) << options.number << '\n';
  std::vector<std::string> waiting = waiting_in(*pool);
  for (; waiting.size() > options.number; waiting.pop_back()) {
    if (take(*pool, waiting.back())) kill_machines({waiting.back()});
  }
  for (std::size_t number = waiting.size(); number < options.number; ++number) {
    if (const int status = start_one(options, *pool); status != exit_status::kSuccess) return status;
  }
  if (options.number == 0) fs::remove_all(*pool, error);
  return exit_status::kSuccess;
}

std::optional<std::string> take_warm_machine(const RunOptions& options) {
  // What has to be compared with the snapshot is not for a machine that runs already.
  if (options.memory_given || options.cpus_given) return std::nullopt;
  const Result<snapshot::Reference> reference = snapshot::Reference::parse(options.from);
  const Result<snapshot::Store> store = snapshot::Store::of_user();
  if (!reference || !store) return std::nullopt;
  const Result<Manifest> found = store->find(*reference);
  if (!found) return std::nullopt;
  const Manifest& manifest = *found;
  const std::string& engine = options.engine;
  const Result<std::string> pool = pool_of(manifest, engine);
  if (!pool) return std::nullopt;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(*pool, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with('.') || !take(*pool, name)) continue;
    Result<Guardian> guardian = Guardian::start([&] { end_and_replace(name, manifest, engine); });
    if (!guardian) return std::nullopt;
    guardian->outlive();
    if (set_state(name, "Resumed")) return name;
  }
  return std::nullopt;
}

void end_warm_machines(const Manifest& manifest) {
  const Result<std::string> runtime = control::runtime_directory();
  if (!runtime) return;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(*runtime + "/.warm", error)) {
    if (!entry.path().filename().string().starts_with(manifest.id + "-")) continue;
    for (const std::string& name : waiting_in(entry.path().string())) {
      if (take(entry.path().string(), name)) kill_machines({name});
    }
    std::error_code failed;
    fs::remove_all(entry.path(), failed);
  }
}

}  // namespace doppel::cli
