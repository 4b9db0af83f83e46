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
  /// Every key reaches the guest. Output processing stays on where our own messages come in between, so that they look
  /// right; else it is for the guest's terminal alone.
  enum class Output : std::uint8_t { Processed, Raw };
  void set_raw(Output output) const;

 private:
  TerminalMode(int fd, const termios& found) : fd_(fd), found_(found) {}

  int fd_;
  termios found_;
};

/// The user's terminal in raw mode; the old mode comes back on destruction. Should the process die another way, it is
/// for a Guardian to restore it.
class RawTerminal {
 public:
  explicit RawTerminal(const TerminalMode& mode, TerminalMode::Output output = TerminalMode::Output::Processed)
      : mode_(mode), output_(output) {
    resume();
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
  ~RawTerminal() { suspend(); }

  /// For the time that this process is stopped by job control.
  void suspend() { mode_.restore(); }
  void resume() { mode_.set_raw(output_); }

 private:
  const TerminalMode mode_;
  const TerminalMode::Output output_;
};

/// In characters.
struct TerminalSize {
  std::uint16_t columns = 0, rows = 0;
};
/// Nothing when `fd` is no terminal or does not say.
std::optional<TerminalSize> terminal_size(int fd);

}  // namespace doppel::cli
