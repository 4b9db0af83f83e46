#include "cli/run.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>

#include "base/log.h"
#include "base/state_directory.h"
#include "base/system_error.h"
#include "cli/agent_client.h"
#include "cli/await_load.h"
#include "cli/endpoints.h"
#include "cli/exec.h"
#include "cli/exit_status.h"
#include "cli/from_snapshot.h"
#include "cli/guardian.h"
#include "cli/manage.h"
#include "cli/message.h"
#include "cli/run_image.h"
#include "cli/running.h"
#include "cli/session.h"
#include "cli/warm_pool.h"
#include "control/unix_socket.h"
#include "control/vsock_connector.h"
#include "debug/gdb_server.h"
#include "debug/machine_target.h"
#include "jail/jail.h"
#include "jail/shared_directory.h"
#include "snapshot/keeper.h"
#include "snapshot/snapshotter.h"
#include "snapshot/store.h"

namespace doppel::cli {
namespace {

int fail(int status, const Error& error) {
  complain(error.message);
  return status;
}

TerminalFacts terminal_facts(const RunOptions& options) {
  TerminalFacts facts;
  const char* const type = std::getenv("TERM");
  // Somebody will look at a detached machine's console later, from a terminal.
  if (type != nullptr && (options.detach || (::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0))) {
    facts.type = type;
  }
  const std::optional<TerminalSize> size = facts.type ? terminal_size(STDOUT_FILENO) : std::nullopt;
  if (size) facts.size = fmt::format("{}x{}", size->columns, size->rows);
  return facts;
}

/// Where a detached machine's own log goes when the user names no file: it outlives the machine, unlike the runtime
/// directory. One a name, begun anew by each machine of that name.
Result<std::string> detached_log_path(const std::string& name) {
  const Result<std::string> directory = state_directory();
  if (!directory) return Error{directory.error().message + "; or name a log with --log-file"};
  std::error_code error;
  std::filesystem::create_directories(*directory, error);
  if (error) return Error{fmt::format("cannot create {}: {}", *directory, error.message())};
  return *directory + "/" + name + ".log";
}

Result<void> configure_log(const RunOptions& options, const std::string& machine_name) {
  const Result<log::Level> level = log::parse_level(options.log_level);
  if (!level) return Error{"--log: " + level.error().message};
  if (!options.detach || !options.log_file.empty()) return log::configure(*level, options.log_file);
  const Result<std::string> path = detached_log_path(machine_name);
  if (!path) return path.error();
  std::error_code ignored;
  std::filesystem::remove(*path, ignored);
  return log::configure(*level, *path);
}

/// A machine with its debug server, for as long as both live.
class Debugging {
 public:
  explicit Debugging(machine::Machine& machine) : target_(machine) {}

  Result<void> start(const RunOptions& options) {
    Result<std::unique_ptr<debug::GdbServer>> server = debug::GdbServer::listen(options.gdb, target_);
    if (!server) return Error{"--gdb: " + server.error().message};
    server_ = *std::move(server);
    if (options.gdb_wait) target_.stop();
    show(fmt::format("doppel: {} for gdb: target remote :{}\n", options.gdb_wait ? "waiting" : "ready",
                     server_->port()));
    return {};
  }
  void machine_ended(int status) { server_->machine_ended(status); }

 private:
  debug::MachineTarget target_;
  std::unique_ptr<debug::GdbServer> server_;
};

/// As long as it takes: the guest may be paused, and this process ends with the machine.
constexpr std::chrono::seconds kRenewalPatience{0};

/// Tells the guest of a machine that goes on from a snapshot what time it is, from a process of its own.
void tell_time(const std::string& name) {
  std::signal(SIGCHLD, SIG_IGN);
  if (::fork() != 0) return;
  const Result<control::RunningVm> vm = find_running(name);
  Result<UniqueFd> agent = vm ? connect_vsock(vm->paths, agent::kPort, kRenewalPatience) : vm.error();
  if (agent && !(send_renewal(agent->get(), {}) && receive_renewed(agent->get()))) {
    // An agent of old.
    agent = connect_vsock(vm->paths, agent::kPort, kRenewalPatience);
    const std::string now = fmt::format("@{}", std::time(nullptr));
    if (agent && send_start(agent->get(), {.arguments = {"date", "-s", now}})) {
      static_cast<void>(receive_message(agent->get()));
    }
  }
  ::_exit(0);
}

/// What tidies up when this process has ended: the user's terminal, and the machine's entry in the runtime directory,
/// which a machine in its jail cannot reach. Nothing where there is neither. It keeps the machine's snapshots, too.
Result<std::optional<Guardian>> start_guardian(const std::optional<TerminalMode>& terminal,
                                               const Result<std::string>& runtime,
                                               const std::optional<snapshot::Store>& store,
                                               const std::optional<snapshot::KeptDisks>& disks,
                                               const std::string& run_directory, bool renew) {
  if (!terminal && !runtime) return std::optional<Guardian>();
  const auto duty = [terminal, runtime, run_directory] {
    if (terminal) terminal->restore(TCSANOW);
    std::error_code ignored;
    if (!run_directory.empty()) std::filesystem::remove_all(run_directory, ignored);
    if (runtime) control::Registry(*runtime).clean();
  };
  std::function<void(int)> keeper;
  if (store) keeper = [&](int socket) { snapshot::serve_keeper(socket, *store, disks, renew ? tell_time : nullptr); };
  Result<Guardian> guardian = Guardian::start(duty, terminal ? terminal->fd() : -1, keeper);
  if (!guardian) return guardian.error();
  return std::optional<Guardian>(*std::move(guardian));
}

/// What connects the guest to the host's sockets, where a machine in its jail finds none.
Result<Guardian> start_connector(const control::VmPaths& paths) {
  return Guardian::start([] {}, -1, [paths](int socket) { control::serve_vsock_connector(socket, paths); });
}

jail::Needs jail_needs(const RunOptions& options, const machine::MachineConfig& config) {
  jail::Needs needs = jail::Needs::Machine;
  if (!options.gdb.empty()) needs = needs | jail::Needs::Debugger;
  if (!config.disks.empty()) needs = needs | jail::Needs::Storage;
  for (const machine::NetworkConfig& network : config.networks) {
    if (network.kind == machine::NetworkConfig::Kind::User) needs = needs | jail::Needs::Network;
    needs = needs | jail::Needs::Reactor;
  }
  if (!config.shares.empty()) needs = needs | jail::Needs::Share;
  if (config.vsock_listener != nullptr) needs = needs | jail::Needs::Reactor;
  return needs;
}

/// What is to happen in the machine's process on its way to running; either may be empty.
struct Hooks {
  std::function<Result<void>()> in_jail;  ///< privileges are dropped, system calls not yet
  std::function<void(const std::string& name)> on_running;
};

/// What a machine is made of.
struct Start {
  machine::MachineConfig config;
  std::optional<snapshot::Manifest> base{};  ///< the snapshot that it goes on from
};

std::optional<snapshot::Store> snapshot_store() {
  Result<snapshot::Store> store = snapshot::Store::of_user();
  return store ? std::optional(*std::move(store)) : std::nullopt;
}

/// Gives the machine's disks their places in the store of disks, if there is one.
Result<snapshot::PreparedDisks> prepare_disks(const RunOptions& options, Start& start,
                                              const std::optional<snapshot::Store>& store) {
  if (!store) return snapshot::PreparedDisks();
  const std::string from = start.base ? store->directory(start.base->machine, start.base->tag) : std::string();
  return store->disks().prepare(start.config.disks, start.base, from, options.restore);
}

/// Snapshots are made of machines that others can reach.
Result<std::unique_ptr<snapshot::Snapshotter>> make_snapshotter(machine::Machine& machine,
                                                                const std::optional<Guardian>& guardian,
                                                                std::optional<snapshot::Manifest> base) {
  if (Result<void> bound = snapshot::Keeper(guardian->socket()).bind(machine.config().name); !bound) {
    return bound.error();
  }
  return std::make_unique<snapshot::Snapshotter>(machine, guardian->socket(), std::move(base));
}

/// Everything after the options were found good, in the process that will be the machine.
/// `claimed`: the name that it has already.
int run_machine(const RunOptions& options, Start start, const Hooks& hooks, std::optional<Claim> claimed = {}) {
  machine::MachineConfig& config = start.config;
  Result<Signals> signals = Signals::block();
  if (!signals) return fail(exit_status::kHostFailure, signals.error());

  // Only where the console is the guest's and the user's alike.
  const bool interactive = !options.detach && !options.command;
  const std::optional<TerminalMode> mode = interactive ? TerminalMode::of(STDIN_FILENO) : std::nullopt;
  const Result<std::string> runtime = control::runtime_directory();
  // First, so that it works when all else has ended: the lock on the machine's name is to be free by then.
  const std::optional<snapshot::Store> store = runtime ? snapshot_store() : std::nullopt;
  Result<snapshot::PreparedDisks> prepared = prepare_disks(options, start, store);
  if (!prepared) return fail(exit_status::kHostFailure, prepared.error());
  std::optional<snapshot::KeptDisks> disks;
  if (store) disks = {store->disks(), prepared->places};
  const Result<std::optional<Guardian>> guardian =
      start_guardian(mode, runtime, store, disks, prepared->run_directory(),
                     start.base && start.base->vsock && !options.renewed_by_caller);
  if (!guardian) return fail(exit_status::kHostFailure, guardian.error());
  if (*guardian) prepared->release();

  std::optional<control::Registration> registration;
  std::optional<Guardian> connector;
  std::optional<Endpoints> endpoints;
  if (runtime) {
    if (!claimed) {
      Result<Claim> made = Claim::make(*runtime, options.name);
      if (!made) return fail(made.error().of_host ? exit_status::kHostFailure : exit_status::kUsage, made.error());
      claimed.emplace(*std::move(made));
    }
    registration.emplace(std::move(claimed->registration));
    config.name = registration->name();
    endpoints.emplace(std::move(claimed->endpoints));
    if (start.base ? start.base->vsock : !options.command) {
      Result<UniqueFd> vsock = control::listen_unix(registration->paths().vsock_socket());
      if (!vsock) return fail(exit_status::kHostFailure, vsock.error());
      config.vsock_listener = std::make_shared<UniqueFd>(*std::move(vsock));
      Result<Guardian> started = start_connector(registration->paths());
      if (!started) return fail(exit_status::kHostFailure, started.error());
      connector.emplace(*std::move(started));
      config.vsock_connect = control::VsockConnector(connector->socket());
    }
  } else if (options.detach || !options.name.empty()) {
    return fail(exit_status::kHostFailure, runtime.error());
  } else {
    // A sandbox without a writable directory: the machine runs all the same, and only doppel ps will not know it.
    log::info("cli", "no control socket: {}", runtime.error().message);
    config.name = "vm";
    if (start.base && start.base->vsock) return fail(exit_status::kHostFailure, runtime.error());
  }
  if (const auto configured = configure_log(options, config.name); !configured) {
    return fail(exit_status::kUsage, configured.error());
  }

  std::optional<jail::Jail> jail;
  if (options.jail == "on") {
    Result<jail::Jail> prepared = jail::Jail::prepare();
    if (!prepared) return fail(exit_status::kHostFailure, prepared.error());
    jail.emplace(*prepared);
  } else {
    log::warning("cli", "no jail: a guest that takes over this process can do whatever you can");
  }
  for (machine::ShareConfig& share : config.shares) {
    Result<UniqueFd> directory = jail::open_shared_directory(share.path, share.read_only);
    if (!directory) return fail(exit_status::kUsage, Error{"--share: " + directory.error().message});
    share.directory = std::make_shared<UniqueFd>(*std::move(directory));
  }
  if (hooks.in_jail) {
    if (const auto done = hooks.in_jail(); !done) return fail(exit_status::kHostFailure, done.error());
  }

  std::optional<RawTerminal> terminal;
  if (mode) terminal.emplace(*mode);
  Result<std::unique_ptr<control::EventLoop>> main_loop = control::EventLoop::create();
  if (!main_loop) return fail(exit_status::kHostFailure, main_loop.error());
  Result<std::unique_ptr<control::EventLoop>> output_loop = control::EventLoop::create();
  if (!output_loop) return fail(exit_status::kHostFailure, output_loop.error());
  const auto began = std::chrono::steady_clock::now();
  Result<std::unique_ptr<machine::Machine>> machine = machine::Machine::create(std::move(config));
  if (!machine) {
    return fail(machine.error().of_host ? exit_status::kHostFailure : exit_status::kUsage, machine.error());
  }

  prepared->opened();

  std::optional<Debugging> debugging;
  if (!options.gdb.empty()) {
    if (const auto started = debugging.emplace(**machine).start(options); !started) {
      return fail(exit_status::kUsage, started.error());
    }
  }

  std::unique_ptr<snapshot::Snapshotter> snapshotter;
  if (store) {
    Result<std::unique_ptr<snapshot::Snapshotter>> made = make_snapshotter(**machine, *guardian, std::move(start.base));
    if (!made) return fail(exit_status::kHostFailure, made.error());
    snapshotter = *std::move(made);
  }

  Session session({options, **machine, **main_loop, **output_loop, *signals, terminal ? &*terminal : nullptr,
                   std::move(endpoints), snapshotter.get()});
  if (jail) {
    if (const auto sealed = jail->seal(jail_needs(options, (*machine)->config())); !sealed) {
      return fail(exit_status::kHostFailure,
                  Error{sealed.error().message + ": doppel run --jail off does without, at your own risk"});
    }
  }
  if ((*machine)->config().saved != nullptr) {
    log::info("snapshot", "restored in {} us",
              std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - began).count());
  }
  const int status =
      session.run(hooks.on_running ? [&] { hooks.on_running((*machine)->config().name); } : std::function<void()>());
  if (debugging) debugging->machine_ended(status);
  return status;
}

/// Whose the machine in the background is.
enum class Tie : std::uint8_t {
  Own,      ///< it outlives this process
  Starter,  ///< it ends with this process
};

/// A machine that runs in a process of its own; or the status with which its process ended before the guest ran.
struct Started {
  std::string name;
  int status = exit_status::kSuccess;
};

Started await_start(pid_t child, const UniqueFd& from_child) {
  std::string name;
  std::array<char, 128> buffer{};
  for (;;) {
    const ssize_t got = ::read(from_child.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    name.append(buffer.data(), static_cast<std::size_t>(got));
  }
  if (!name.empty()) return {name};
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return {{}, WIFEXITED(status) ? WEXITSTATUS(status) : exit_status::kHostFailure};
}

/// Goes on in the starter once `body`, in a process of its own, has called on_running; there it does not return.
Started start_in_background(const std::function<int(const Hooks&)>& body, Tie tie) {
  const auto failed = [](const Error& error) { return Started{{}, fail(exit_status::kHostFailure, error)}; };
  // For the time when files can no longer be opened.
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return failed(system_error("cannot open /dev/null"));
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return failed(system_error("cannot create a pipe"));
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t starter = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return failed(system_error("cannot start another process"));
  if (child != 0) {
    write_end.reset();
    return await_start(child, read_end);
  }
  read_end.reset();
  ::setsid();
  const auto on_running = [&](const std::string& name) {
    // Nothing of the starter's terminal and pipes stays open.
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null.get(), fd);
    [[maybe_unused]] const auto told = write_all(write_end.get(), std::as_bytes(std::span{name}));
    write_end.reset();
  };
  const auto in_jail = [tie, starter]() -> Result<void> {
    // Entering a user namespace would forget it.
    if (tie == Tie::Starter && (::prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || ::getppid() != starter)) {
      return Error{"whoever started this machine has gone"};
    }
    return {};
  };
  std::exit(body({in_jail, on_running}));
}

Started start_in_background(const RunOptions& options, Start start, Tie tie) {
  return start_in_background([&](const Hooks& hooks) { return run_machine(options, std::move(start), hooks); }, tie);
}

/// A guest that boots from a disk may take its time, on a busy host more of it.
constexpr std::chrono::minutes kBootPatience{10};
constexpr int kStopPatienceMs = 60'000;

/// The agent answers before the rest has been started: guest/debian/customize.
constexpr const char* kWhenReady =
    R"([ ! -x /usr/local/lib/doppel/ready ] || /usr/local/lib/doppel/ready </dev/null; exec sh -c "$1")";

/// -c in an image: boots a machine, has its agent run the command, and ends the machine.
int run_command(const ImageRun& image, const std::string& command, machine::MachineConfig config) {
  RunOptions options = image.options;
  options.detach = true;
  const Started machine = start_in_background(options, {std::move(config)}, Tie::Starter);
  if (machine.name.empty()) return machine.status;
  const Result<control::RunningVm> vm = find_running(machine.name);
  if (!vm) return fail(exit_status::kNoCommandEnd, Error{"the machine ended before the command could start"});
  const int status = exec_in_guest({.name = machine.name,
                                    .command = {"sh", "-c", kWhenReady, "sh", command},
                                    .interactive = true,
                                    .patience = kBootPatience,
                                    .tells_of_waiting = false});
  if (control::wait_for_end(*vm, 0)) return status == exit_status::kHostFailure ? exit_status::kNoCommandEnd : status;
  // What was written to a disk that nobody keeps need not be complete.
  const bool stopped = image.keeps && power_off_by_agent(*vm) && control::wait_for_end(*vm, kStopPatienceMs);
  if (!stopped) kill_machines({machine.name});
  return status;
}

int exec_command(const std::string& name, const std::string& command) {
  return exec_in_guest({.name = name, .command = {"sh", "-c", command}, .interactive = true, .renewal = Renewal{}});
}

/// Whether any machine of the snapshot will do.
bool asks_nothing_special(const RunOptions& options) {
  return options.name.empty() && options.nets.empty() && options.shares.empty() && options.gdb.empty() &&
         options.jail == "on" && options.log_file.empty() && !options.no_reboot && options.lockstep_from == 0 &&
         options.code_cache.empty() && !options.perf_map && options.direct == "auto";
}

/// -c in a machine that goes on from a snapshot: its agent runs the command, and the machine ends with this process.
int run_command_from_snapshot(const RunOptions& options, Start start) {
  RunOptions of_machine = options;
  of_machine.detach = true;
  of_machine.command.reset();
  of_machine.renewed_by_caller = true;
  const Started machine = start_in_background(of_machine, std::move(start), Tie::Starter);
  if (machine.name.empty()) return machine.status;
  return exec_command(machine.name, *options.command);
}

int run_from_snapshot(const RunOptions& options) {
  if (options.command && asks_nothing_special(options)) {
    if (const std::optional<std::string> name = take_warm_machine(options)) {
      return exec_command(*name, *options.command);
    }
  }
  Result<SnapshotStart> from = make_config_from_snapshot(options);
  if (!from) return fail(exit_status::kUsage, from.error());
  Start start{std::move(from->config), std::move(from->manifest)};
  if (options.command && !start.base->vsock) {
    return fail(exit_status::kUsage, Error{"-c: the machine of this snapshot has no agent that would run a command"});
  }
  if (options.command) return run_command_from_snapshot(options, std::move(start));
  if (!options.detach) return run_machine(options, std::move(start), {});
  const Started started = start_in_background(options, std::move(start), Tie::Own);
  if (!started.name.empty() && !options.quiet) fmt::print("{}\n", started.name);
  return started.status;
}

/// The machine of the snapshot that the control socket is told of.
int run_what_is_loaded(const RunOptions& options, const Hooks& hooks) {
  const Result<std::string> runtime = control::runtime_directory();
  if (!runtime) return fail(exit_status::kHostFailure, runtime.error());
  Result<Claim> claim = Claim::make(*runtime, options.name);
  if (!claim) return fail(claim.error().of_host ? exit_status::kHostFailure : exit_status::kUsage, claim.error());
  if (hooks.on_running) hooks.on_running(claim->registration.name());
  Result<std::optional<LoadedStart>> loaded = await_load(options, *claim);
  if (!loaded) return fail(exit_status::kHostFailure, loaded.error());
  if (!*loaded) return exit_status::kSuccess;
  LoadedStart& start = **loaded;
  return run_machine(start.options, {std::move(start.start.config), std::move(start.start.manifest)},
                     {hooks.in_jail, {}}, *std::move(claim));
}

int run_awaiting_load(const RunOptions& options) {
  if (!options.from.empty() || options.command) {
    return fail(exit_status::kUsage, Error{"--await-load: the snapshot is named later, and -c needs one now"});
  }
  if (!options.detach) return run_what_is_loaded(options, {});
  const Started started =
      start_in_background([&](const Hooks& hooks) { return run_what_is_loaded(options, hooks); }, Tie::Own);
  if (!started.name.empty()) fmt::print("{}\n", started.name);
  return started.status;
}

}  // namespace

int run(const RunOptions& options) {
  if (options.gdb_wait && options.gdb.empty()) {
    return fail(exit_status::kUsage, Error{"--gdb-wait needs a port for gdb: add --gdb :1234"});
  }
  if (options.detach && options.command) {
    return fail(exit_status::kUsage, Error{"-c needs somebody to take its output: leave --detach out"});
  }
  if (options.jail != "on" && options.jail != "off") {
    return fail(exit_status::kUsage, Error{fmt::format("--jail {}: use on or off", options.jail)});
  }
  if (options.await_load) return run_awaiting_load(options);
  if (!options.from.empty()) return run_from_snapshot(options);
  Result<std::optional<ImageRun>> image = resolve_image(options);
  if (!image) return fail(exit_status::kUsage, image.error());
  const RunOptions& effective = *image ? (**image).options : options;
  Result<machine::MachineConfig> config = make_config(effective, terminal_facts(options));
  if (!config) return fail(exit_status::kUsage, config.error());
  if (*image && options.command) return run_command(**image, *options.command, *std::move(config));
  if (!options.detach) return run_machine(effective, {*std::move(config)}, {});
  const Started started = start_in_background(effective, {*std::move(config)}, Tie::Own);
  if (started.name.empty()) return started.status;
  fmt::print("{}\n", started.name);
  return exit_status::kSuccess;
}

}  // namespace doppel::cli
