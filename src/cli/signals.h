#pragma once

#include <functional>

#include "base/fd.h"
#include "base/result.h"
#include "control/event_loop.h"

namespace doppel::cli {

/// SIGINT, SIGTERM and SIGHUP as events of the loop, SIGTSTP and SIGWINCH too. Those that were ignored when the program
/// started (nohup) stay so. SIGPIPE is ignored from here on.
class Signals {
 public:
  /// Blocks them; before the process has threads, which inherit that.
  static Result<Signals> block();

  void watch(control::EventLoop& loop, std::function<void(int signal)> on_signal);

 private:
  explicit Signals(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace doppel::cli
