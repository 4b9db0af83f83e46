#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "base/fd.h"
#include "control/console_log.h"
#include "control/event_loop.h"
#include "control/output_queue.h"
#include "control/serial_input.h"

namespace doppel::control {

/// A guest's console: what it prints goes to the log, to every client of the console's socket and to an output of this
/// process; what any of them types goes to the guest. Everything but guest_output() is the loop's thread's.
class Console {
 public:
  static constexpr std::size_t kMaxClients = 16;

  Console(EventLoop& loop, SerialInput& input) : loop_(loop), input_(input) {}
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  // --- Before the guest runs; each is optional ---
  void set_log(ConsoleLog log) { log_ = std::move(log); }
  void set_output(std::shared_ptr<OutputQueue> output) { output_ = std::move(output); }
  /// Raw bytes both ways; a client that does not keep up is dropped.
  void serve(UniqueFd listener);

  /// From vCPU threads, one at a time.
  void guest_output(std::span<const std::byte> bytes);

  /// SerialInput::wants_more() has become true again.
  void input_wanted();

  /// Says goodbye to all clients; what they have not taken yet is lost.
  void close();

 private:
  struct Client {
    UniqueFd in;
    UniqueFd out;  ///< the same socket: one number to wait for reading, one for writing
    std::shared_ptr<OutputQueue> queue;
  };

  void accept_all();
  void receive(int fd);
  void drop(int fd);

  EventLoop& loop_;
  SerialInput& input_;
  UniqueFd listener_;
  std::shared_ptr<OutputQueue> output_;

  std::mutex mutex_;  ///< guest_output() against changes of what follows
  std::optional<ConsoleLog> log_;
  std::map<int, Client> clients_;
};

}  // namespace doppel::control
