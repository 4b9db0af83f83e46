#include "cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

namespace doppel::cli {

std::optional<TerminalMode> TerminalMode::of(int fd) {
  termios found{};
  if (::isatty(fd) == 0 || ::tcgetattr(fd, &found) != 0) return std::nullopt;
  return TerminalMode(fd, found);
}

void TerminalMode::restore(int when) const {
  ::tcsetattr(fd_, when, &found_);
}

void TerminalMode::set_raw(Output output) const {
  termios mode = found_;
  mode.c_iflag &= ~static_cast<tcflag_t>(BRKINT | ICRNL | INLCR | IGNCR | INPCK | ISTRIP | IXON | PARMRK);
  mode.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHONL | ICANON | IEXTEN | ISIG);
  if (output == Output::Raw) mode.c_oflag &= ~static_cast<tcflag_t>(OPOST);
  mode.c_cc[VMIN] = 1;
  mode.c_cc[VTIME] = 0;
  ::tcsetattr(fd_, TCSADRAIN, &mode);
}

std::optional<TerminalSize> terminal_size(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return std::nullopt;
  return TerminalSize{size.ws_col, size.ws_row};
}

}  // namespace doppel::cli
