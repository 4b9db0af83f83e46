#pragma once

#include <termios.h>

#include <cstdint>
#include <optional>

namespace doppel::cli {

/// A terminal and the mode in which it was found.
class TerminalMode {
 public:
  /// Nothing when `fd` is no terminal.
  static std::optional<TerminalMode> of(int fd);

  int fd() const { return fd_; }
  /// Sets the mode again: TCSADRAIN once the output has been taken, TCSANOW at once.
  void restore(int when = TCSADRAIN) const;
  /// Every key reaches the guest; output processing stays on, so that our own messages look right.
  void set_raw() const;

 private:
  TerminalMode(int fd, const termios& found) : fd_(fd), found_(found) {}

  int fd_;
  termios found_;
};

/// The user's terminal in raw mode; the old mode comes back on destruction. Should the process die another way, it is
/// for a Guardian to restore it.
class RawTerminal {
 public:
  explicit RawTerminal(const TerminalMode& mode) : mode_(mode) { resume(); }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
  ~RawTerminal() { suspend(); }

  /// For the time that this process is stopped by job control.
  void suspend() { mode_.restore(); }
  void resume() { mode_.set_raw(); }

 private:
  const TerminalMode mode_;
};

/// In characters.
struct TerminalSize {
  std::uint16_t columns = 0, rows = 0;
};
/// Nothing when `fd` is no terminal or does not say.
std::optional<TerminalSize> terminal_size(int fd);

}  // namespace doppel::cli
