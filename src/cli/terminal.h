#pragma once

#include <sys/types.h>
#include <termios.h>

#include <optional>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace doppel::cli {

/// The user's terminal in raw mode, so that every key reaches the guest; output processing stays on, so that our own
/// messages look right. The old mode comes back on destruction, and, through a guardian process that waits for this one
/// to end, after any other death too. Create it before the process has threads.
class RawTerminal {
 public:
  /// Nothing when `fd` is no terminal.
  static Result<std::optional<RawTerminal>> enter(int fd);
  RawTerminal(RawTerminal&& other) noexcept;
  RawTerminal& operator=(RawTerminal&&) = delete;
  ~RawTerminal();

  /// For the time that this process is stopped by job control.
  void suspend();
  void resume();

 private:
  RawTerminal(int fd, const termios& saved) : fd_(fd), saved_(saved) {}
  Result<void> start_guardian();

  int fd_;
  termios saved_;
  pid_t guardian_ = -1;
  UniqueFd guardian_pipe_;
};

/// "80x24", columns by rows; nothing when `fd` is no terminal or does not say.
std::optional<std::string> terminal_size(int fd);

}  // namespace doppel::cli
