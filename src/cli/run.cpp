#include "cli/run.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "base/log.h"
#include "base/system_error.h"
#include "cli/exit_status.h"
#include "cli/message.h"
#include "cli/session.h"
#include "debug/gdb_server.h"
#include "debug/machine_target.h"

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
  if (facts.type) facts.size = terminal_size(STDOUT_FILENO);
  return facts;
}

Result<void> configure_log(const RunOptions& options, const control::Registration* registration) {
  const Result<log::Level> level = log::parse_level(options.log_level);
  if (!level) return Error{"--log: " + level.error().message};
  std::string path = options.log_file;
  if (path.empty() && options.detach && registration != nullptr) path = registration->paths().directory + "/doppel.log";
  return log::configure(*level, path);
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

/// Everything after the options were found good, in the process that will be the machine.
int run_machine(const RunOptions& options, machine::MachineConfig config,
                const std::function<void(const std::string& name)>& on_running) {
  Result<Signals> signals = Signals::block();
  if (!signals) return fail(exit_status::kHostFailure, signals.error());

  std::optional<control::Registration> registration;
  Result<std::string> runtime = control::runtime_directory();
  if (runtime) {
    Result<control::Registration> claimed = control::Registry(*std::move(runtime)).claim(options.name);
    if (!claimed) return fail(exit_status::kUsage, claimed.error());
    registration.emplace(*std::move(claimed));
    config.name = registration->name();
  } else if (options.detach || !options.name.empty()) {
    return fail(exit_status::kHostFailure, runtime.error());
  } else {
    // A sandbox without a writable directory: the machine runs all the same, and only doppel ps will not know it.
    log::info("cli", "no control socket: {}", runtime.error().message);
    config.name = "vm";
  }
  control::Registration* const registered = registration ? &*registration : nullptr;
  if (const auto configured = configure_log(options, registered); !configured) {
    return fail(exit_status::kUsage, configured.error());
  }

  std::optional<RawTerminal> terminal;
  if (!options.detach && !options.command) {
    Result<std::optional<RawTerminal>> entered = RawTerminal::enter(STDIN_FILENO);
    if (!entered) return fail(exit_status::kHostFailure, entered.error());
    if (*entered) terminal.emplace(**std::move(entered));
  }

  Result<std::unique_ptr<control::EventLoop>> main_loop = control::EventLoop::create();
  if (!main_loop) return fail(exit_status::kHostFailure, main_loop.error());
  Result<std::unique_ptr<control::EventLoop>> output_loop = control::EventLoop::create();
  if (!output_loop) return fail(exit_status::kHostFailure, output_loop.error());
  Result<std::unique_ptr<machine::Machine>> machine = machine::Machine::create(std::move(config));
  if (!machine) return fail(exit_status::kUsage, machine.error());

  std::optional<Debugging> debugging;
  if (!options.gdb.empty()) {
    if (const auto started = debugging.emplace(**machine).start(options); !started) {
      return fail(exit_status::kUsage, started.error());
    }
  }

  Session session(
      {options, **machine, **main_loop, **output_loop, *signals, terminal ? &*terminal : nullptr, registered});
  if (const auto prepared = session.prepare(); !prepared) return fail(exit_status::kHostFailure, prepared.error());
  const int status = session.run(on_running ? [&] { on_running((*machine)->config().name); } : std::function<void()>());
  if (debugging) debugging->machine_ended(status);
  return status;
}

/// Nothing of the starter's terminal and pipes stays open in a detached machine.
void leave_standard_streams() {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null.get(), fd);
}

/// The starter waits for the machine's name, and prints it; or for its end, and ends likewise.
int await_detached(pid_t child, UniqueFd from_child) {
  std::string name;
  std::array<char, 128> buffer{};
  for (;;) {
    const ssize_t got = ::read(from_child.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    name.append(buffer.data(), static_cast<std::size_t>(got));
  }
  if (!name.empty()) {
    fmt::print("{}\n", name);
    return exit_status::kSuccess;
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : exit_status::kHostFailure;
}

int run_detached(const RunOptions& options, machine::MachineConfig config) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    return fail(exit_status::kHostFailure, system_error("cannot create a pipe"));
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return fail(exit_status::kHostFailure, system_error("cannot start another process"));
  if (child != 0) {
    write_end.reset();
    return await_detached(child, std::move(read_end));
  }
  read_end.reset();
  ::setsid();
  return run_machine(options, std::move(config), [&write_end](const std::string& name) {
    leave_standard_streams();
    [[maybe_unused]] const auto told = write_all(write_end.get(), std::as_bytes(std::span{name}));
    write_end.reset();
  });
}

}  // namespace

int run(const RunOptions& options) {
  if (options.gdb_wait && options.gdb.empty()) {
    return fail(exit_status::kUsage, Error{"--gdb-wait needs a port for gdb: add --gdb :1234"});
  }
  if (options.detach && options.command) {
    return fail(exit_status::kUsage, Error{"-c needs somebody to take its output: leave --detach out"});
  }
  Result<machine::MachineConfig> config = make_config(options, terminal_facts(options));
  if (!config) return fail(exit_status::kUsage, config.error());
  if (options.detach) return run_detached(options, *std::move(config));
  return run_machine(options, *std::move(config), {});
}

}  // namespace doppel::cli
