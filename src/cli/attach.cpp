#include "cli/attach.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/escape.h"
#include "cli/exit_status.h"
#include "cli/guardian.h"
#include "cli/input_source.h"
#include "cli/message.h"
#include "cli/running.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "control/client.h"
#include "control/event_loop.h"
#include "control/output_queue.h"
#include "control/unix_socket.h"

namespace doppel::cli {
namespace {

class Attachment {
 public:
  Attachment(control::RunningVm vm, UniqueFd console, control::EventLoop& loop, RawTerminal* terminal)
      : vm_(std::move(vm)),
        console_(std::move(console)),
        loop_(loop),
        terminal_(terminal),
        escape_(keys(), [](const std::string& text) { show(text); }),
        input_(
            loop, STDIN_FILENO, [this](std::span<const std::byte> bytes) { on_typed(bytes); },
            [this] { on_input_end(); }) {}

  int run(Signals& signals) {
    signals.watch(loop_, [this](int number) { on_signal(number); });
    loop_.watch(console_.get(), POLLIN, [this](short) { on_output(); });
    tell_size();
    input_.set_flowing(true);
    loop_.run();
    return status_;
  }

 private:
  std::vector<EscapeKey> keys() {
    return {{'x', "leave; the machine goes on", [this] { leave(); }},
            {'d', "the same", [this] { leave(); }},
            {'s', "show the machine's state", [this] { show_state(); }},
            {'p', "press the power button: the guest shuts down", [this] { call("PUT", "/vm/stop", {}); }},
            {'b', "send a break", [this] { call("PUT", "/actions", R"({"action_type":"SendBreak"})"); }},
            {'c', "send Ctrl-Alt-Del", [this] { call("PUT", "/actions", R"({"action_type":"SendCtrlAltDel"})"); }}};
  }

  void leave() {
    show(fmt::format("\nleft {}; doppel console {} comes back\n", vm_.name, vm_.name));
    loop_.quit();
  }

  std::optional<std::string> call(std::string_view method, std::string_view target, std::string_view body) {
    Result<control::HttpResponse> response = control::call(vm_.paths.control_socket(), method, target, body);
    if (response) return std::move(response->body);
    complain(response.error().message);
    return std::nullopt;
  }

  void show_state() {
    const auto body = call("GET", "/", {});
    if (!body) return;
    const auto instance = nlohmann::json::parse(*body, nullptr, /*allow_exceptions=*/false);
    if (instance.is_object()) show(fmt::format("\n{}: {}\n", vm_.name, instance.value("state", "")));
  }

  void on_typed(std::span<const std::byte> bytes) {
    std::string typed(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (terminal_ != nullptr) typed = escape_.filter(typed);
    if (!write_all(console_.get(), std::as_bytes(std::span{typed}))) loop_.quit();
  }

  void on_input_end() {
    // A pipe's end is not the end of what the guest has to say; a terminal's is nobody there any more.
    if (terminal_ != nullptr) loop_.quit();
  }

  void on_output() {
    std::array<std::byte, 16384> buffer{};
    const ssize_t got = ::read(console_.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) return;
    if (got <= 0 || !write_all(STDOUT_FILENO, std::span(buffer).first(static_cast<std::size_t>(got)))) loop_.quit();
  }

  /// A serial console has no size, and says so; that is nobody's concern.
  void tell_size() {
    const auto size = terminal_ != nullptr ? terminal_size(STDOUT_FILENO) : std::nullopt;
    if (!size) return;
    const nlohmann::json body{{"columns", size->columns}, {"rows", size->rows}};
    static_cast<void>(control::call(vm_.paths.control_socket(), "PUT", "/console/size", body.dump()));
  }

  void on_signal(int number) {
    if (number == SIGWINCH) return tell_size();
    if (number == SIGTSTP) {
      if (terminal_ != nullptr) terminal_->suspend();
      ::kill(::getpid(), SIGSTOP);
      if (terminal_ != nullptr) terminal_->resume();
      return;
    }
    status_ = exit_status::kSignalBase + number;
    loop_.quit();
  }

  control::RunningVm vm_;
  UniqueFd console_;
  control::EventLoop& loop_;
  RawTerminal* terminal_;
  EscapeFilter escape_;
  InputSource input_;
  int status_ = exit_status::kSuccess;
};

int fail(const Error& error) {
  complain(error.message);
  return exit_status::kFailure;
}

}  // namespace

int attach_console(const std::string& name) {
  Result<control::RunningVm> vm = find_running(name);
  if (!vm) return fail(vm.error());
  Result<UniqueFd> console = control::connect_unix(vm->paths.console_socket());
  if (!console) return fail(console.error());
  Result<Signals> signals = Signals::block();
  if (!signals) return fail(signals.error());
  Result<std::unique_ptr<control::EventLoop>> loop = control::EventLoop::create();
  if (!loop) return fail(loop.error());
  std::optional<Guardian> guardian;
  std::optional<RawTerminal> terminal;
  if (const auto mode = TerminalMode::of(STDIN_FILENO)) {
    Result<Guardian> started = Guardian::start([mode] { mode->restore(TCSANOW); }, mode->fd());
    if (!started) return fail(started.error());
    guardian.emplace(*std::move(started));
    terminal.emplace(*mode);
    show(fmt::format("connected to {}; Ctrl-a x leaves, Ctrl-a h lists the rest\n", name));
  }
  RawTerminal* const raw = terminal ? &*terminal : nullptr;
  return Attachment(*std::move(vm), *std::move(console), **loop, raw).run(*signals);
}

}  // namespace doppel::cli
