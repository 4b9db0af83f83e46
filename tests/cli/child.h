#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "base/fd.h"

namespace doppel::test {

/// A part of the program in a process of its own: its standard input and output are pipes, or both a terminal, that the
/// test holds the other ends of; its value is the exit status. The limits only keep a broken program from hanging the
/// suite.
class Child {
 public:
  enum class Terminal { Pipes, Pty };

  explicit Child(const std::function<int()>& work, Terminal terminal = Terminal::Pipes) {
    std::array<int, 2> in{-1, -1}, out{-1, -1}, err{-1, -1};
    EXPECT_EQ(::pipe(err.data()), 0);
    if (terminal == Terminal::Pty) {
      EXPECT_EQ(::openpty(&in[1], &in[0], nullptr, nullptr, nullptr), 0);
      out = {::dup(in[1]), ::dup(in[0])};
    } else {
      EXPECT_EQ(::pipe(in.data()), 0);
      EXPECT_EQ(::pipe(out.data()), 0);
    }
    std::fflush(stdout);
    process_ = ::fork();
    if (process_ == 0) {
      ::dup2(in[0], STDIN_FILENO);
      ::dup2(out[1], STDOUT_FILENO);
      ::dup2(err[1], STDERR_FILENO);
      for (const int fd : {in[0], in[1], out[0], out[1], err[0], err[1]}) {
        if (fd > STDERR_FILENO) ::close(fd);
      }
      const int status = work();
      std::fflush(stdout);
      ::_exit(status);
    }
    for (const int fd : {in[0], out[1], err[1]}) ::close(fd);
    input_ = UniqueFd(in[1]);
    output_ = UniqueFd(out[0]);
    errors_ = UniqueFd(err[0]);
  }
  ~Child() {
    if (process_ <= 0) return;
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void send(std::string_view text) {
    EXPECT_EQ(::write(input_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void close_input() { input_.reset(); }
  void signal(int number) const { ::kill(process_, number); }

  /// Everything up to and with `text` since the last call; empty when it does not come.
  std::string read_until(std::string_view text) {
    for (;;) {
      if (const std::size_t at = read_.find(text); at != std::string::npos) {
        std::string found = read_.substr(0, at + text.size());
        read_.erase(0, found.size());
        return found;
      }
      if (!read_more(output_, read_)) return {};
    }
  }
  std::string rest() {
    while (read_more(output_, read_)) {
    }
    return std::exchange(read_, {});
  }
  std::string errors() {
    std::string text;
    while (read_more(errors_, text)) {
    }
    return text;
  }
  int wait() {
    int status = 0;
    EXPECT_EQ(::waitpid(process_, &status, 0), process_);
    process_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  static bool read_more(const UniqueFd& fd, std::string& into) {
    constexpr int kLimitMs = 120'000;
    pollfd waiting{fd.get(), POLLIN, 0};
    if (::poll(&waiting, 1, kLimitMs) <= 0) return false;
    std::array<char, 4096> buffer{};
    const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
    if (got <= 0) return false;
    into.append(buffer.data(), static_cast<std::size_t>(got));
    return true;
  }

  pid_t process_ = -1;
  UniqueFd input_, output_, errors_;
  std::string read_;
};

}  // namespace doppel::test
