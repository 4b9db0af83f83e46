#include "cli/session.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <utility>

#include "base/log.h"
#include "cli/exit_status.h"
#include "cli/message.h"
#include "cli/units.h"
#include "control/api.h"

namespace doppel::cli {
namespace {

using control::OutputQueue;

constexpr auto kRunningPoll = std::chrono::milliseconds(1);

std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span{text});
}

/// What the guest prints on a port, for a queue.
auto sink_of(const std::shared_ptr<OutputQueue>& queue) {
  return [queue](std::span<const std::byte> bytes) { queue->write(bytes); };
}

control::SerialInput::Port port_of(machine::Machine& machine, unsigned port) {
  return [&machine, port](std::span<const std::byte> bytes) { return machine.send_serial_input(port, bytes); };
}

}  // namespace

Session::Session(Parts parts)
    : parts_(std::move(parts)),
      loop_(parts_.main_loop),
      output_loop_(parts_.output_loop),
      machine_(parts_.machine),
      vm_(parts_.machine, parts_.snapshotter),
      console_input_(loop_, port_of(machine_, console_port())),
      command_input_(loop_, port_of(machine_, port::kInputOutput)),
      console_(loop_, console_input_),
      escape_(escape_keys(), [](const std::string& text) { show(text); }) {
  if (parts_.endpoints) serve(*std::move(parts_.endpoints));
  parts_.signals.watch(output_loop_, [this](int number) { on_signal(number); });
  connect_console();
  if (is_command()) connect_command();
}

Session::~Session() {
  if (output_) output_->close();
  if (errors_) errors_->close();
}

void Session::serve(Endpoints endpoints) {
  server_.emplace(loop_, std::move(endpoints.control_socket),
                  [this](const control::HttpRequest& request) { return control::answer(request, vm_); });
  console_.serve(std::move(endpoints.console_socket));
  console_.set_log(std::move(endpoints.console_log));
}

void Session::connect_console() {
  if (!is_command() && !parts_.options.detach) {
    // Whoever stops reading our output (head, a closed window) is done with the machine, as with any program.
    output_ =
        OutputQueue::create(output_loop_, STDOUT_FILENO, OutputQueue::WhenFull::Wait, [this] { on_signal(SIGPIPE); });
    console_.set_output(output_);
  }
  machine_.set_serial_output(console_port(),
                             [this](std::span<const std::byte> bytes) { console_.guest_output(bytes); });
  machine_.set_serial_input_space(console_port(), [this] { console_input_.space_available(); });
  if (console_port() != port::kConsole) {
    // The kernel may say its last words before it has a driver for its console.
    machine_.set_serial_output(port::kConsole, {});
    tell_size();
  }
  console_input_.set_on_wants_more([this] {
    console_.input_wanted();
    if (input_ && !is_command()) input_->set_flowing(true);
  });
}

void Session::connect_command() {
  output_ =
      OutputQueue::create(output_loop_, STDOUT_FILENO, OutputQueue::WhenFull::Wait, [this] { on_signal(SIGPIPE); });
  errors_ = OutputQueue::create(output_loop_, STDERR_FILENO, OutputQueue::WhenFull::Wait, [] {});
  machine_.set_serial_output(port::kInputOutput, sink_of(output_));
  machine_.set_serial_output(port::kErrors, sink_of(errors_));
  machine_.set_serial_output(port::kControl, [this](std::span<const std::byte> bytes) {
    loop_.post([this, copy = std::vector<std::byte>(bytes.begin(), bytes.end())] {
      const bool was_ready = progress_.ready();
      progress_.feed(copy);
      if (progress_.ready() && !was_ready) start_input();
    });
  });
  machine_.set_serial_input_space(port::kInputOutput, [this] { command_input_.space_available(); });
  command_input_.set_on_wants_more([this] {
    if (input_) input_->set_flowing(true);
  });
}

void Session::start_input() {
  control::SerialInput& target = is_command() ? command_input_ : console_input_;
  const auto on_bytes = [this, &target](std::span<const std::byte> bytes) {
    if (is_command()) {
      target.push(encoder_.encode(bytes));
    } else if (parts_.terminal != nullptr) {
      const std::string typed(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      target.push(as_bytes(escape_.filter(typed)));
    } else {
      line_open_ = bytes.back() != std::byte{'\n'};
      target.push(bytes);
    }
    if (!target.wants_more()) input_->set_flowing(false);
  };
  input_.emplace(loop_, STDIN_FILENO, on_bytes, [this] { on_input_end(); });
  input_->set_flowing(true);
}

void Session::on_input_end() {
  if (is_command()) return command_input_.push(encoder_.finish());
  // A terminal that hangs up is the end of the session; a pipe's end is one for the embedded guest's shell, which reads
  // a terminal in canonical mode. What another guest would make of it nobody knows.
  if (parts_.terminal != nullptr) return on_signal(SIGHUP);
  constexpr char kEndOfFile = 0x04;
  if (runs_embedded_shell(parts_.options)) {
    console_input_.push(as_bytes(line_open_ ? std::string(2, kEndOfFile) : std::string(1, kEndOfFile)));
  }
}

void Session::on_signal(int number) {
  if (number == SIGTSTP) return suspend();
  // The guest may be waiting for this loop with the console locked.
  if (number == SIGWINCH) return loop_.post([this] { tell_size(); });
  // Asked twice: it must end now, even if the machine does not.
  if (ended_by_signal_ != 0 && number != SIGPIPE) {
    if (parts_.terminal != nullptr) parts_.terminal->suspend();
    ::_exit(exit_status::kSignalBase + number);
  }
  ended_by_signal_ = number;
  end_now();
}

void Session::end_now() {
  // A processor may be waiting for room in these.
  if (output_) output_->stop_waiting();
  if (errors_) errors_->stop_waiting();
  machine_.stop();
}

void Session::tell_size() {
  if (parts_.terminal == nullptr) return;
  if (const auto size = terminal_size(STDOUT_FILENO)) machine_.set_console_size(size->columns, size->rows);
}

void Session::suspend() {
  if (parts_.terminal != nullptr) parts_.terminal->suspend();
  ::kill(::getpid(), SIGSTOP);
  if (parts_.terminal != nullptr) parts_.terminal->resume();
}

std::vector<EscapeKey> Session::escape_keys() {
  return {{'x', "end the machine and leave",
           [this] {
             left_ = true;
             end_now();
           }},
          {'s', "show the machine's state", [this] { show_status(); }},
          {'p', "press the power button: the guest shuts down", [this] { machine_.press_power_button(); }},
          {'b', "send a break", [this] { machine_.send_serial_break(console_port()); }},
          {'c', "send Ctrl-Alt-Del", [this] { machine_.send_ctrl_alt_del(); }},
          {'r', "press the reset button", [this] { machine_.reset(); }},
          {'d', "leave a machine that was started with --detach (see doppel console)",
           [] { show("\nthis machine ends with this terminal; machines started with --detach do not\n"); }}};
}

void Session::show_status() {
  const machine::MachineConfig& config = machine_.config();
  show(fmt::format("\n{}: {}, {} processor{}, {} of memory, engine {}\n", config.name, vm_.state(), config.cpus,
                   config.cpus == 1 ? "" : "s", format_size(config.memory_bytes), machine_.engine_name()));
}

void Session::await_running(std::function<void()> on_running) {
  if (machine_.state() == machine::Machine::State::Created) {
    loop_.after(kRunningPoll, [this, on_running = std::move(on_running)] { await_running(on_running); });
  } else if (machine_.state() != machine::Machine::State::Ended) {
    on_running();
  }
}

int Session::run(std::function<void()> on_running) {
  if (parts_.options.start_paused) vm_.pause();
  if (on_running) await_running(std::move(on_running));
  if (!is_command() && !parts_.options.detach) start_input();
  std::thread main_thread([this] { loop_.run(); });
  std::thread output_thread([this] { output_loop_.run(); });
  const Result<machine::Outcome> outcome = machine_.run();
  loop_.post([this] {
    input_.reset();
    loop_.quit();
  });
  main_thread.join();
  output_loop_.post([this] { await_output(); });
  output_thread.join();
  return conclude(outcome);
}

/// Ends the output loop when nothing waits for the user any more, or for a user who no longer waits.
void Session::await_output() {
  if (ended_by_signal_ != 0 || left_) return output_loop_.quit();
  const auto quit = [this] { output_loop_.quit(); };
  const auto then_errors = [this, quit] { errors_ ? errors_->when_empty(quit) : quit(); };
  // The machine has ended, so that stopping it would no longer end this wait.
  parts_.signals.watch(output_loop_, [this](int number) {
    if (number == SIGWINCH) return;
    ended_by_signal_ = number;
    output_loop_.quit();
  });
  output_ ? output_->when_empty(then_errors) : then_errors();
}

/// Nobody reads a detached machine's standard error; its log outlives it.
void Session::report(const std::string& message) const {
  if (parts_.options.detach) {
    log::error("cli", "{}", message);
  } else {
    complain(message);
  }
}

int Session::conclude(const Result<machine::Outcome>& outcome) {
  using Kind = machine::Outcome::Kind;
  if (!outcome) {
    report(outcome.error().message);
    return exit_status::kUsage;
  }
  if (ended_by_signal_ != 0) return exit_status::kSignalBase + ended_by_signal_;
  if (progress_.status()) return *progress_.status();
  switch (outcome->kind) {
    case Kind::Panic:
      report("the guest's kernel panicked: " + outcome->detail);
      return exit_status::kGuestPanic;
    case Kind::TripleFault:
      report("the guest crashed its processor (triple fault): " + outcome->detail);
      return exit_status::kTripleFault;
    case Kind::Diverged:
      report("doppel executed the guest wrongly, as the report above shows: " + outcome->detail);
      return exit_status::kDiverged;
    case Kind::DebugExit:
      return outcome->status;
    case Kind::Stopped:
      if (left_) return exit_status::kSuccess;
      report("the machine was killed");
      return exit_status::kSignalBase + SIGKILL;
    case Kind::PowerOff:
    case Kind::Reset:
      break;
  }
  if (!is_command()) return exit_status::kSuccess;
  report("the machine ended before the command did");
  return exit_status::kNoCommandEnd;
}

}  // namespace doppel::cli
