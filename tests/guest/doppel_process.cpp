#include "guest/doppel_process.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <system_error>
#include <thread>

namespace doppel::test {
namespace {

using Clock = std::chrono::steady_clock;

struct Pipe {
  UniqueFd read, write;
};

Pipe make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe2");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

[[noreturn]] void execute(const std::vector<std::string>& arguments) {
  std::vector<char*> argv;
  argv.push_back(const_cast<char*>(DOPPEL_PROGRAM));
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(argv[0], argv.data());
  _exit(127);
}

void append_available(UniqueFd& fd, std::string& text) {
  std::array<char, 65536> buffer{};
  const ssize_t count = read(fd.get(), buffer.data(), buffer.size());
  // A pty gives EIO when its other side is closed.
  if (count > 0) {
    text.append(buffer.data(), static_cast<std::size_t>(count));
  } else if (count == 0 || errno != EINTR) {
    fd.reset();
  }
}

}  // namespace

DoppelProcess::DoppelProcess(const std::vector<std::string>& arguments, Terminal terminal) {
  Pipe error = make_pipe();
  if (terminal == Terminal::Pty) {
    int master = -1;
    pid_ = forkpty(&master, nullptr, nullptr, nullptr);
    if (pid_ == 0) {
      dup2(error.write.get(), STDERR_FILENO);
      execute(arguments);
    }
    output_fd_ = UniqueFd(master);
    input_ = UniqueFd(fcntl(master, F_DUPFD_CLOEXEC, 0));
  } else {
    Pipe in = make_pipe();
    Pipe out = make_pipe();
    pid_ = fork();
    if (pid_ == 0) {
      dup2(in.read.get(), STDIN_FILENO);
      dup2(out.write.get(), STDOUT_FILENO);
      dup2(error.write.get(), STDERR_FILENO);
      execute(arguments);
    }
    input_ = std::move(in.write);
    output_fd_ = std::move(out.read);
  }
  error_fd_ = std::move(error.read);
}

DoppelProcess::~DoppelProcess() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

bool DoppelProcess::pump(Clock::time_point limit) {
  while (output_fd_.valid() || error_fd_.valid()) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(limit - Clock::now());
    if (left.count() <= 0) return false;
    std::array<pollfd, 2> fds{pollfd{output_fd_.get(), POLLIN, 0}, pollfd{error_fd_.get(), POLLIN, 0}};
    if (poll(fds.data(), fds.size(), static_cast<int>(left.count())) <= 0) continue;
    if (fds[0].revents != 0) append_available(output_fd_, output_);
    if (fds[1].revents != 0) append_available(error_fd_, errors_);
    return true;
  }
  return false;
}

bool DoppelProcess::expect(std::string_view text, std::chrono::seconds limit) {
  const auto end = Clock::now() + limit;
  do {
    const std::size_t at = output_.find(text, matched_);
    if (at != std::string::npos) {
      matched_ = at + text.size();
      return true;
    }
  } while (pump(end));
  return false;
}

bool DoppelProcess::expect_error(std::string_view text, std::chrono::seconds limit) {
  const auto end = Clock::now() + limit;
  do {
    if (errors_.find(text) != std::string::npos) return true;
  } while (pump(end));
  return false;
}

void DoppelProcess::send(std::string_view text) {
  (void)write_all(input_.get(), std::as_bytes(std::span{text})).ok();
}

void DoppelProcess::close_input() {
  input_.reset();
}

int DoppelProcess::wait(std::chrono::seconds limit) {
  const auto end = Clock::now() + limit;
  while (pump(end)) {
  }
  if (Clock::now() >= end) kill(pid_, SIGKILL);
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

RunResult run_doppel(const std::vector<std::string>& arguments, std::string_view input) {
  DoppelProcess process(arguments);
  // It may have to be rid of output before it takes more input.
  std::thread sender([&process, input] {
    process.send(input);
    process.close_input();
  });
  const int status = process.wait();
  sender.join();
  return {status, process.output(), process.errors()};
}

void kill_machine(const std::string& name) noexcept {
  try {
    run_doppel({"kill", name});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s was not ended: %s\n", name.c_str(), error.what());
  }
}

std::optional<std::string> guest_file(std::string_view name) {
  const std::filesystem::path path = std::filesystem::path(DOPPEL_GUEST_DIR) / name;
  if (!std::filesystem::exists(path)) return std::nullopt;
  return path.string();
}

}  // namespace doppel::test
