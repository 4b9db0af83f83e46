#include "jail/jail.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <functional>
#include <string>
#include <thread>

namespace doppel::jail {
namespace {

constexpr int kJailFailed = 99;

/// How a child process ends that goes into the jail and then does `work`, whose value is its exit status.
class JailTest : public testing::Test {
 protected:
  /// An exit status, or 1000 and the number of the signal.
  static int in_jail(
      const std::function<int()>& work, Needs needs = Needs::Machine, const std::function<void()>& between = [] {}) {
    const pid_t child = ::fork();
    if (child == 0) {
      Result<Jail> jail = Jail::prepare();
      if (!jail) ::_exit(kJailFailed);
      between();
      if (!jail->seal(needs)) ::_exit(kJailFailed);
      ::_exit(work());
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  /// The errno of a failing call, 0 for one that succeeds.
  static int error_of(long result) { return result < 0 ? errno : 0; }
};

TEST_F(JailTest, FilesCannotBeOpenedMadeOrRemoved) {
  EXPECT_EQ(in_jail([] { return error_of(::open("/etc/passwd", O_RDONLY)); }), EPERM);
  EXPECT_EQ(in_jail([] { return error_of(::open("/nowhere/new", O_WRONLY | O_CREAT, 0600)); }), EPERM);
  EXPECT_EQ(in_jail([] { return error_of(::unlink("/nowhere/old")); }), EPERM);
  EXPECT_EQ(in_jail([] { return error_of(::rename("/nowhere/old", "/nowhere/new")); }), EPERM);
}

TEST_F(JailTest, NoProgramCanBeStarted) {
  EXPECT_EQ(in_jail([] {
              char name[] = "/bin/true";
              char* const arguments[] = {name, nullptr};
              return ::execve(name, arguments, nullptr);
            }),
            1000 + SIGSYS);
  EXPECT_EQ(in_jail([] { return error_of(::syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); }), EPERM);
}

TEST_F(JailTest, WhatIsOpenStaysUsable) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  EXPECT_EQ(in_jail([&ends] { return ::write(ends[1], "x", 1) == 1 ? 0 : errno; }), 0);
  char byte = 0;
  EXPECT_EQ(::read(ends[0], &byte, 1), 1);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(JailTest, ThreadsCanBeStartedAndAreInsideToo) {
  const auto open_in_thread = [] {
    int result = 0;
    std::thread([&result] { result = error_of(::open("/etc/passwd", O_RDONLY)); }).join();
    return result;
  };
  EXPECT_EQ(in_jail(open_in_thread), EPERM);
}

TEST_F(JailTest, ThreadsFromBeforeAreInside) {
  std::atomic<bool> sealed = false;
  int result = 0;
  std::thread before;
  const int status = in_jail(
      [&] {
        sealed = true;
        before.join();
        return result;
      },
      Needs::Machine,
      [&] {
        before = std::thread([&] {
          while (!sealed) std::this_thread::yield();
          result = error_of(::open("/etc/passwd", O_RDONLY));
        });
      });
  EXPECT_EQ(status, EPERM);
}

TEST_F(JailTest, SocketsAreForMachinesWithANetwork) {
  const auto make_socket = [] { return error_of(::socket(AF_INET, SOCK_STREAM, 0)); };
  EXPECT_EQ(in_jail(make_socket), EPERM);
  EXPECT_EQ(in_jail(make_socket, Needs::Network), 0);
  EXPECT_EQ(in_jail([] { return error_of(::socket(AF_UNIX, SOCK_STREAM, 0)); }, Needs::Network), EPERM);
}

TEST_F(JailTest, SignalsReachNobodyElse) {
  EXPECT_EQ(in_jail([] { return error_of(::kill(::getppid(), 0)); }), EPERM);
  EXPECT_EQ(in_jail([] { return error_of(::kill(::getpid(), 0)); }), 0);
}

TEST_F(JailTest, NothingIsLeftOfItsPrivileges) {
  EXPECT_EQ(in_jail([] { return error_of(::setuid(0)); }), 1000 + SIGSYS);
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    Result<Jail> jail = Jail::prepare();
    if (!jail) ::_exit(kJailFailed);
    // Opened now, read when nothing can be opened any more.
    const int self = ::open("/proc/thread-self/status", O_RDONLY);
    if (self < 0 || !jail->seal(Needs::Machine)) ::_exit(kJailFailed);
    std::array<char, 8192> text{};
    const ssize_t length = ::read(self, text.data(), text.size());
    ::_exit(length > 0 && ::write(ends[1], text.data(), static_cast<std::size_t>(length)) == length ? 0 : 1);
  }
  ::close(ends[1]);
  std::string text(8192, '\0');
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(0, ::read(ends[0], text.data(), text.size()))));
  ::close(ends[0]);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  for (const char* const line : {"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000",
                                 "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << " in\n" << text;
  }
}

}  // namespace
}  // namespace doppel::jail
