#include "cli/exec.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <thread>

#include "base/bits.h"
#include "base/system_error.h"
#include "cli/agent_client.h"
#include "cli/exit_status.h"
#include "cli/guardian.h"
#include "cli/message.h"
#include "cli/running.h"
#include "cli/terminal.h"

namespace doppel::cli {
namespace {

constexpr int kCannotStart = 127;
/// After this, the user is told what is being waited for.
constexpr std::chrono::seconds kSilence{5};

/// One command in the guest. What it prints is taken by a thread of its own, so that neither direction waits for the
/// other.
class Execution {
 public:
  Execution(UniqueFd agent, UniqueFd signals, UniqueFd ended, const ExecOptions& options)
      : agent_(std::move(agent)), signals_(std::move(signals)), ended_(std::move(ended)), options_(options) {}

  int run() {
    std::thread reader([this] { read_output(); });
    if (!options_.interactive) send_message(agent_.get(), agent::Kind::Input, {});
    bool input_open = options_.interactive;
    for (;;) {
      std::array<pollfd, 3> fds{pollfd{ended_.get(), POLLIN, 0}, pollfd{signals_.get(), POLLIN, 0},
                                pollfd{input_open ? STDIN_FILENO : -1, POLLIN, 0}};
      if (::poll(fds.data(), fds.size(), -1) < 0) continue;
      if (fds[0].revents != 0) break;
      if (fds[1].revents != 0) on_signal();
      if (fds[2].revents != 0) input_open = pass_input();
    }
    reader.join();
    return status_;
  }

 private:
  void read_output() {
    bool ended = false;
    while (!ended) {
      const std::optional<AgentMessage> message = receive_message(agent_.get());
      if (!message) {
        complain("the connection to the guest was lost");
        status_ = exit_status::kHostFailure;
        break;
      }
      ended = !take(*message);
    }
    const std::uint64_t one = 1;
    static_cast<void>(write_all(ended_.get(), std::as_bytes(std::span{&one, 1})).ok());
  }

  bool take(const AgentMessage& message) {
    switch (message.kind) {
      case agent::Kind::Output:
        // Nobody takes our output any more: what is still to come is of no interest, but for the status.
        static_cast<void>(write_all(STDOUT_FILENO, message.body).ok());
        return true;
      case agent::Kind::Errors:
        static_cast<void>(write_all(STDERR_FILENO, message.body).ok());
        return true;
      case agent::Kind::Exit:
        status_ = message.body.size() == 4 ? static_cast<int>(load_le<std::uint32_t>(message.body.data())) : 1;
        return false;
      case agent::Kind::Failure:
        complain({reinterpret_cast<const char*>(message.body.data()), message.body.size()});
        status_ = kCannotStart;
        return false;
      default:
        return true;
    }
  }

  bool pass_input() {
    std::array<std::byte, 16384> buffer{};
    const ssize_t got = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) return true;
    send_message(agent_.get(), agent::Kind::Input,
                 std::span(buffer).first(got > 0 ? static_cast<std::size_t>(got) : 0));
    return got > 0;
  }

  void on_signal() {
    signalfd_siginfo info{};
    if (::read(signals_.get(), &info, sizeof info) != sizeof info) return;
    if (info.ssi_signo == SIGWINCH) {
      winsize size{};
      if (!options_.terminal || ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return;
      std::array<std::byte, 4> body{};
      store_le(body.data(), std::uint16_t{size.ws_row});
      store_le(body.data() + 2, std::uint16_t{size.ws_col});
      send_message(agent_.get(), agent::Kind::Resize, body);
      return;
    }
    const auto number = static_cast<std::byte>(info.ssi_signo);
    send_message(agent_.get(), agent::Kind::Signal, {&number, 1});
  }

  const UniqueFd agent_, signals_, ended_;
  const ExecOptions& options_;
  std::atomic<int> status_ = exit_status::kFailure;
};

Result<UniqueFd> catch_signals() {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH}) ::sigaddset(&set, number);
  if (::pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0) return system_error("cannot block signals");
  UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC));
  if (!fd.valid()) return system_error("cannot create a signalfd");
  return fd;
}

int fail(const Error& error) {
  complain(error.message);
  return exit_status::kHostFailure;
}

}  // namespace

int exec_in_guest(const ExecOptions& options) {
  if (options.command.empty()) return fail(Error{"exec: which command? doppel exec NAME COMMAND…"});
  Result<control::RunningVm> vm = find_running(options.name);
  if (!vm) return fail(vm.error());
  if (!options.renewal && is_paused(*vm)) {
    complain(fmt::format("{0} is paused and answers when it goes on: doppel resume {0}", vm->name));
  }
  Result<UniqueFd> agent = connect_agent(*vm, std::min(options.patience, kSilence));
  if (!agent && options.patience > kSilence && !control::wait_for_end(*vm, 0)) {
    if (options.tells_of_waiting)
      complain(fmt::format("{}: no agent answers yet; waiting for the guest, {} s at most", vm->name,
                           (options.patience - kSilence).count()));
    agent = connect_agent(*vm, options.patience - kSilence);
  }
  if (!agent) return fail(agent.error());
  if (options.renewal && !(send_renewal(agent->get(), *options.renewal) && receive_renewed(agent->get()))) {
    agent = connect_agent(*vm, options.patience);
    if (!agent) return fail(agent.error());
  }
  AgentCommand command{options.command, options.terminal};
  if (options.terminal) {
    winsize size{};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) {
      command.rows = size.ws_row;
      command.columns = size.ws_col;
    }
    if (const char* const term = std::getenv("TERM")) command.term = term;
  }
  if (!send_start(agent->get(), command)) return fail(Error{"the command is too long"});

  std::optional<Guardian> guardian;
  std::optional<RawTerminal> terminal;
  if (const auto mode = options.terminal && options.interactive ? TerminalMode::of(STDIN_FILENO) : std::nullopt) {
    Result<Guardian> started = Guardian::start([mode] { mode->restore(TCSANOW); }, mode->fd());
    if (!started) return fail(started.error());
    guardian.emplace(*std::move(started));
    terminal.emplace(*mode, TerminalMode::Output::Raw);
  }
  Result<UniqueFd> signals = catch_signals();
  if (!signals) return fail(signals.error());
  UniqueFd ended(::eventfd(0, EFD_CLOEXEC));
  if (!ended.valid()) return fail(system_error("cannot create an eventfd"));
  return Execution(*std::move(agent), *std::move(signals), std::move(ended), options).run();
}

}  // namespace doppel::cli
