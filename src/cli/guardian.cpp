#include "cli/guardian.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <utility>

#include "base/system_error.h"

namespace doppel::cli {
namespace {

/// Closes all descriptors but these two.
void close_others(int one, int other) {
  const auto [low, high] = std::minmax(one, other);
  int next = 0;
  for (const int kept : {low, high}) {
    if (kept < 0) continue;
    for (; next < kept; ++next) ::close(next);
    next = kept + 1;
  }
  if (::close_range(static_cast<unsigned>(next), UINT_MAX, 0) == 0) return;
  constexpr int kLikely = 1024;  // kernels before 5.9
  for (; next < kLikely; ++next) ::close(next);
}

[[noreturn]] void guard(int pipe, int keep, const std::function<void()>& duty,
                        const std::function<void(int)>& service) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGTTOU}) std::signal(signal, SIG_IGN);
  close_others(pipe, keep);
  if (service) service(pipe);
  char byte = 0;
  while (::read(pipe, &byte, 1) < 0 && errno == EINTR) {
  }
  duty();
  ::_exit(0);
}

}  // namespace

Result<Guardian> Guardian::start(const std::function<void()>& duty, int keep, const std::function<void(int)>& service) {
  std::array<int, 2> ends{};
  const int made =
      service ? ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) : ::pipe2(ends.data(), O_CLOEXEC);
  if (made != 0) return system_error("cannot create a pipe");
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t process = ::fork();
  if (process < 0) return system_error("cannot start a guardian process");
  if (process == 0) guard(read_end.get(), keep, duty, service);
  return Guardian(process, std::move(write_end));
}

Guardian::Guardian(Guardian&& other) noexcept
    : process_(std::exchange(other.process_, -1)), pipe_(std::move(other.pipe_)) {}

void Guardian::outlive() {
  process_ = -1;
  static_cast<void>(pipe_.release());
}

Guardian::~Guardian() {
  if (process_ < 0) return;
  pipe_.reset();
  while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace doppel::cli
