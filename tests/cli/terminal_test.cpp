#include "cli/terminal.h"

#include <gtest/gtest.h>
#include <pty.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "base/fd.h"

namespace doppel::cli {
namespace {

class TerminalTest : public testing::Test {
 protected:
  TerminalTest() {
    int controller = -1;
    int terminal = -1;
    winsize size{.ws_row = 33, .ws_col = 91, .ws_xpixel = 0, .ws_ypixel = 0};
    EXPECT_EQ(::openpty(&controller, &terminal, nullptr, nullptr, &size), 0);
    controller_ = UniqueFd(controller);
    terminal_ = UniqueFd(terminal);
    before_ = mode();
  }
  termios mode() const {
    termios current{};
    EXPECT_EQ(::tcgetattr(terminal_.get(), &current), 0);
    return current;
  }
  bool is_raw() const { return (mode().c_lflag & (ICANON | ECHO | ISIG)) == 0; }
  bool is_as_before() const {
    const termios now = mode();
    return now.c_iflag == before_.c_iflag && now.c_oflag == before_.c_oflag && now.c_lflag == before_.c_lflag &&
           std::memcmp(now.c_cc, before_.c_cc, sizeof now.c_cc) == 0;
  }

  UniqueFd controller_, terminal_;
  termios before_{};
};

TEST_F(TerminalTest, IsRawInsideAndAsBeforeAfterwards) {
  {
    const RawTerminal raw(*TerminalMode::of(terminal_.get()));
    EXPECT_TRUE(is_raw());
    EXPECT_NE(mode().c_oflag & OPOST, 0U) << "our own lines need their carriage returns";
  }
  EXPECT_TRUE(is_as_before());
}

TEST_F(TerminalTest, LeavesOutputToAGuestsTerminal) {
  {
    const RawTerminal raw(*TerminalMode::of(terminal_.get()), TerminalMode::Output::Raw);
    EXPECT_TRUE(is_raw());
    EXPECT_EQ(mode().c_oflag & OPOST, 0U);
  }
  EXPECT_TRUE(is_as_before());
}

TEST_F(TerminalTest, SuspendsAndResumes) {
  RawTerminal raw(*TerminalMode::of(terminal_.get()));
  raw.suspend();
  EXPECT_TRUE(is_as_before());
  raw.resume();
  EXPECT_TRUE(is_raw());
}

TEST(TerminalMode, APipeHasNone) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const UniqueFd read(ends[0]);
  const UniqueFd write(ends[1]);
  EXPECT_FALSE(TerminalMode::of(read.get()));
  EXPECT_FALSE(terminal_size(read.get()));
}

TEST_F(TerminalTest, KnowsItsSize) {
  const auto size = terminal_size(terminal_.get());
  ASSERT_TRUE(size);
  EXPECT_EQ(size->columns, 91);
  EXPECT_EQ(size->rows, 33);
}

}  // namespace
}  // namespace doppel::cli
