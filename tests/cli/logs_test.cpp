#include "cli/logs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/temporary_directory.h"
#include "cli/child.h"
#include "control/console_log.h"
#include "control/registry.h"

namespace doppel::cli {
namespace {

using test::Child;
using testing::HasSubstr;

class Logs : public testing::Test {
 protected:
  Logs() { ::setenv("XDG_RUNTIME_DIR", directory_.path().c_str(), 1); }
  ~Logs() override { ::unsetenv("XDG_RUNTIME_DIR"); }

  /// A machine named web with a log; only after the children were made, which would hold its name's lock as well.
  void start_machine() {
    auto claimed = registry().claim("web");
    ASSERT_TRUE(claimed);
    registration_.emplace(*std::move(claimed));
    const control::VmPaths& paths = registration_->paths();
    auto log = control::ConsoleLog::create(paths.console_log(), paths.other_console_log());
    ASSERT_TRUE(log);
    log_.emplace(*std::move(log));
  }
  void print(std::string_view text) { log_->append(std::as_bytes(std::span{text})); }
  void end_machine() {
    registration_.reset();
    registry().clean();
  }
  static control::Registry registry() { return control::Registry(*control::runtime_directory()); }
  /// `doppel logs web` once a byte has come.
  static int logs_when_told(bool follow) {
    char byte = 0;
    if (::read(STDIN_FILENO, &byte, 1) != 1) return 99;
    return print_logs("web", follow);
  }

  test::TemporaryDirectory directory_;
  std::optional<control::Registration> registration_;
  std::optional<control::ConsoleLog> log_;
};

TEST_F(Logs, PrintsWhatTheConsoleHasShown) {
  Child child([] { return logs_when_told(false); });
  start_machine();
  print("one\n");
  child.send("x");
  EXPECT_EQ(child.rest(), "one\n");
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(Logs, FollowsUntilTheMachineEnds) {
  Child child([] { return logs_when_told(true); });
  start_machine();
  print("one\n");
  child.send("x");
  EXPECT_EQ(child.read_until("one\n"), "one\n");
  print("two\n");
  EXPECT_EQ(child.read_until("two\n"), "two\n");
  const std::string much(control::ConsoleLog::kMaxLength, 'm');
  print(much);
  EXPECT_EQ(child.read_until(much), much);
  print("three\n");
  end_machine();
  EXPECT_EQ(child.rest(), "three\n");
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(Logs, AMachineThatIsNotThereIsAnError) {
  Child child([] { return print_logs("web", false); });
  EXPECT_EQ(child.wait(), 1);
  EXPECT_THAT(child.errors(), HasSubstr("no machine named web is running"));
}

}  // namespace
}  // namespace doppel::cli
