#include "cli/terminal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "base/system_error.h"

namespace doppel::cli {
namespace {

/// The guardian's life: until the pipe says "done" (one byte), or the other process has died (end of file).
[[noreturn]] void guard(int pipe, int terminal, const termios& saved) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGTTOU}) std::signal(signal, SIG_IGN);
  // Whoever reads our parent's output waits for its end, not for ours.
  for (int fd = 0; fd < 1024; ++fd) {
    if (fd != pipe && fd != terminal) ::close(fd);
  }
  char byte = 0;
  ssize_t got = 0;
  do {
    got = ::read(pipe, &byte, 1);
  } while (got < 0 && errno == EINTR);
  if (got == 0) ::tcsetattr(terminal, TCSANOW, &saved);
  ::_exit(0);
}

termios raw_mode(termios mode) {
  mode.c_iflag &= ~static_cast<tcflag_t>(BRKINT | ICRNL | INLCR | IGNCR | INPCK | ISTRIP | IXON | PARMRK);
  mode.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHONL | ICANON | IEXTEN | ISIG);
  mode.c_cc[VMIN] = 1;
  mode.c_cc[VTIME] = 0;
  return mode;
}

}  // namespace

Result<std::optional<RawTerminal>> RawTerminal::enter(int fd) {
  termios saved{};
  if (::isatty(fd) == 0 || ::tcgetattr(fd, &saved) != 0) return std::optional<RawTerminal>();
  RawTerminal terminal(fd, saved);
  if (auto started = terminal.start_guardian(); !started) return started.error();
  terminal.resume();
  return std::optional<RawTerminal>(std::move(terminal));
}

Result<void> RawTerminal::start_guardian() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error("cannot create a pipe");
  const UniqueFd read_end(ends[0]);
  guardian_pipe_ = UniqueFd(ends[1]);
  guardian_ = ::fork();
  if (guardian_ < 0) return system_error("cannot start the terminal's guardian");
  if (guardian_ == 0) guard(read_end.get(), fd_, saved_);
  return {};
}

RawTerminal::RawTerminal(RawTerminal&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      saved_(other.saved_),
      guardian_(std::exchange(other.guardian_, -1)),
      guardian_pipe_(std::move(other.guardian_pipe_)) {}

RawTerminal::~RawTerminal() {
  if (fd_ < 0 || guardian_ < 0) return;
  suspend();
  const char done = 1;
  [[maybe_unused]] const ssize_t written = ::write(guardian_pipe_.get(), &done, 1);
  while (::waitpid(guardian_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void RawTerminal::suspend() {
  ::tcsetattr(fd_, TCSADRAIN, &saved_);
}

void RawTerminal::resume() {
  const termios raw = raw_mode(saved_);
  ::tcsetattr(fd_, TCSADRAIN, &raw);
}

std::optional<std::string> terminal_size(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return std::nullopt;
  return fmt::format("{}x{}", size.ws_col, size.ws_row);
}

}  // namespace doppel::cli
