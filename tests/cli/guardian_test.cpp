#include "cli/guardian.h"

#include <gtest/gtest.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include "cli/terminal.h"

namespace doppel::cli {
namespace {

class GuardianTest : public testing::Test {
 protected:
  GuardianTest() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    read_ = UniqueFd(ends[0]);
    write_ = UniqueFd(ends[1]);
  }
  /// Waits for a byte; 0 at the end of file.
  char next() {
    char byte = 0;
    return ::read(read_.get(), &byte, 1) == 1 ? byte : '\0';
  }
  std::function<void()> tells(char byte) {
    return [fd = write_.get(), byte] { [[maybe_unused]] const ssize_t told = ::write(fd, &byte, 1); };
  }

  UniqueFd read_, write_;
};

TEST_F(GuardianTest, DoesItsDutyAtTheEndAndNotBefore) {
  {
    const auto guardian = Guardian::start(tells('g'), write_.get());
    ASSERT_TRUE(guardian) << guardian.error().message;
    tells('m')();
  }
  write_.reset();
  EXPECT_EQ(next(), 'm');
  EXPECT_EQ(next(), 'g');
  EXPECT_EQ(next(), '\0') << "once, and it has ended";
}

TEST_F(GuardianTest, DoesItsDutyWhenTheProcessIsKilled) {
  const pid_t victim = ::fork();
  if (victim == 0) {
    const auto guardian = Guardian::start(tells('g'), write_.get());
    tells('m')();
    for (;;) ::pause();
  }
  write_.reset();
  ASSERT_EQ(next(), 'm');
  ASSERT_EQ(::kill(victim, SIGKILL), 0);
  ASSERT_EQ(::waitpid(victim, nullptr, 0), victim);
  EXPECT_EQ(next(), 'g');
}

TEST_F(GuardianTest, HoldsNothingOpen) {
  const auto guardian = Guardian::start([] {});
  ASSERT_TRUE(guardian);
  write_.reset();
  EXPECT_EQ(next(), '\0') << "though the guardian lives and was forked with the pipe";
}

TEST_F(GuardianTest, BringsATerminalBackAfterSigkill) {
  int controller = -1;
  int terminal = -1;
  ASSERT_EQ(::openpty(&controller, &terminal, nullptr, nullptr, nullptr), 0);
  const UniqueFd ours(controller), theirs(terminal);
  const auto is_raw = [&] {
    termios now{};
    EXPECT_EQ(::tcgetattr(terminal, &now), 0);
    return (now.c_lflag & ICANON) == 0;
  };
  const pid_t victim = ::fork();
  if (victim == 0) {
    const auto mode = TerminalMode::of(terminal);
    const auto guardian = Guardian::start([&] { mode->restore(TCSANOW); }, terminal);
    const RawTerminal raw(*mode);
    tells('m')();
    for (;;) ::pause();
  }
  ASSERT_EQ(next(), 'm');
  EXPECT_TRUE(is_raw());
  ASSERT_EQ(::kill(victim, SIGKILL), 0);
  ASSERT_EQ(::waitpid(victim, nullptr, 0), victim);
  // The guardian is nobody's child now; all there is to wait for is what it does.
  for (int i = 0; i < 60'000 && is_raw(); ++i) ::usleep(1000);
  EXPECT_FALSE(is_raw());
}

}  // namespace
}  // namespace doppel::cli
