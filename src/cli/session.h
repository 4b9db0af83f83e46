#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "cli/command_protocol.h"
#include "cli/endpoints.h"
#include "cli/escape.h"
#include "cli/input_source.h"
#include "cli/run_options.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "control/console.h"
#include "control/event_loop.h"
#include "control/machine_vm.h"
#include "control/output_queue.h"
#include "control/serial_input.h"
#include "control/server.h"
#include "machine/machine.h"

namespace doppel::cli {

/// One running machine and all that surrounds it: the user's terminal or pipes, signals, the control and console
/// sockets.
///
/// The caller's thread runs the machine. A processor that prints may wait, holding its serial port, until somebody has
/// taken the output; so what ends that wait (writing the output, signals) has a thread of its own, the output loop,
/// which never asks anything of the machine that could make it wait in turn. All else happens in the main loop.
class Session {
 public:
  struct Parts {
    const RunOptions& options;
    machine::Machine& machine;
    control::EventLoop& main_loop;
    control::EventLoop& output_loop;
    Signals& signals;
    RawTerminal* terminal;               ///< nullptr: standard input is no terminal, or not the guest's console
    std::optional<Endpoints> endpoints;  ///< nothing: nobody else can reach this machine
    snapshot::Snapshotter* snapshotter;  ///< nullptr: there is no place for snapshots
  };
  explicit Session(Parts parts);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Runs the machine until it ends and all output has been taken. `on_running` is called once the guest runs, in the
  /// other thread. The exit status; errors have been printed.
  int run(std::function<void()> on_running);

 private:
  void serve(Endpoints endpoints);
  void connect_console();
  void connect_command();
  void start_input();
  void on_input_end();
  void on_signal(int number);
  void end_now();
  void suspend();
  void show_status();
  std::vector<EscapeKey> escape_keys();
  void await_running(std::function<void()> on_running);
  void await_output();
  int conclude(const Result<machine::Outcome>& outcome);
  void report(const std::string& message) const;

  bool is_command() const { return parts_.options.command.has_value(); }
  /// Where the guest's console is.
  unsigned console_port() const { return machine_.config().virtio_console ? machine::kVirtioConsole : port::kConsole; }
  void tell_size();

  Parts parts_;
  control::EventLoop& loop_;
  control::EventLoop& output_loop_;
  machine::Machine& machine_;
  control::MachineVm vm_;

  std::shared_ptr<control::OutputQueue> output_, errors_;
  control::SerialInput console_input_, command_input_;
  control::Console console_;
  std::optional<control::HttpServer> server_;
  std::optional<InputSource> input_;
  EscapeFilter escape_;
  InputEncoder encoder_;
  CommandProgress progress_;

  std::atomic<int> ended_by_signal_ = 0;
  std::atomic<bool> left_ = false;  ///< Ctrl-a x
  bool line_open_ = false;          ///< standard input, no terminal, has not ended its last line
};

}  // namespace doppel::cli
