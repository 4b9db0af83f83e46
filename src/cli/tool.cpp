#include "cli/tool.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "base/fd.h"
#include "base/system_error.h"

namespace doppel::cli {
namespace {

constexpr int kSignalBase = 128;
constexpr int kNotFound = 127;

/// Users' PATH often lacks the directories in which mke2fs is.
std::string search_path() {
  const char* const path = std::getenv("PATH");
  return fmt::format("{}:/usr/local/sbin:/usr/sbin:/sbin", path != nullptr ? path : "/usr/bin:/bin");
}

/// Keeps this process through a Ctrl-C that is meant for its child.
class IgnoreInterrupts {
 public:
  IgnoreInterrupts() {
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    ::sigaction(SIGINT, &ignore, &before_);
  }
  ~IgnoreInterrupts() { ::sigaction(SIGINT, &before_, nullptr); }
  IgnoreInterrupts(const IgnoreInterrupts&) = delete;
  IgnoreInterrupts& operator=(const IgnoreInterrupts&) = delete;

 private:
  struct sigaction before_ {};
};

[[noreturn]] void become(const std::vector<std::string>& arguments, int output, int null) {
  // A builder that is killed takes its tools with it.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  std::signal(SIGINT, SIG_DFL);
  ::dup2(null, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  ::setenv("PATH", search_path().c_str(), 1);
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  ::_exit(kNotFound);
}

void read_lines(int fd, const std::function<void(std::string_view)>& on_line) {
  std::string text;
  std::array<char, 4096> buffer{};
  for (;;) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(got));
    for (std::size_t end = 0; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1)) {
      if (on_line) on_line(std::string_view(text).substr(0, end));
    }
  }
  if (!text.empty() && on_line) on_line(text);
}

}  // namespace

Result<int> run_tool(const std::vector<std::string>& arguments, const std::function<void(std::string_view)>& on_line) {
  const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  std::array<int, 2> ends{};
  if (!null.valid() || ::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error("cannot create a pipe");
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const IgnoreInterrupts ignoring;
  const pid_t child = ::fork();
  if (child < 0) return system_error("cannot start another process");
  if (child == 0) become(arguments, write_end.get(), null.get());
  write_end.reset();
  read_lines(read_end.get(), on_line);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : kSignalBase + WTERMSIG(status);
}

bool has_tool(const std::string& name) {
  const std::string path = search_path();
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t end = std::min(path.find(':', at), path.size());
    const std::string candidate = path.substr(at, end - at) + "/" + name;
    if (::access(candidate.c_str(), X_OK) == 0) return true;
    at = end + 1;
  }
  return false;
}

}  // namespace doppel::cli
