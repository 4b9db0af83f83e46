#include "cli/attach.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstdlib>

#include "base/temporary_directory.h"
#include "cli/child.h"
#include "control/registry.h"
#include "control/unix_socket.h"

namespace doppel::cli {
namespace {

using test::Child;
using testing::HasSubstr;

/// A machine named web, as far as its console's socket goes.
class Attach : public testing::Test {
 protected:
  Attach() {
    ::setenv("XDG_RUNTIME_DIR", directory_.path().c_str(), 1);
    auto claimed = control::Registry(*control::runtime_directory()).claim("web");
    EXPECT_TRUE(claimed);
    registration_.emplace(*std::move(claimed));
    auto listener = control::listen_unix(registration_->paths().console_socket());
    EXPECT_TRUE(listener);
    listener_ = *std::move(listener);
  }
  ~Attach() override { ::unsetenv("XDG_RUNTIME_DIR"); }

  void accept() {
    pollfd waiting{listener_.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&waiting, 1, 120'000), 1);
    client_ = UniqueFd(::accept(listener_.get(), nullptr, nullptr));
    ASSERT_TRUE(client_.valid());
  }
  void print(std::string_view text) const { ASSERT_TRUE(write_all(client_.get(), std::as_bytes(std::span{text}))); }
  /// What the user has typed, `length` characters of it.
  std::string typed(std::size_t length) const {
    std::string text(length, '\0');
    EXPECT_EQ(::recv(client_.get(), text.data(), length, MSG_WAITALL), static_cast<ssize_t>(length));
    return text;
  }

  test::TemporaryDirectory directory_;
  std::optional<control::Registration> registration_;
  UniqueFd listener_, client_;
};

TEST_F(Attach, CarriesBytesBothWaysUntilTheMachineEnds) {
  Child child([] { return attach_console("web"); });
  accept();
  print("login: ");
  EXPECT_EQ(child.read_until("login: "), "login: ");
  child.send("root\x01x\n");
  EXPECT_EQ(typed(7), "root\x01x\n") << "a pipe has no escape key";
  child.close_input();
  print("bye\n");
  EXPECT_EQ(child.read_until("bye\n"), "bye\n") << "the end of the input is not the end";
  client_.reset();
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(Attach, ATerminalIsRawAndLeavesByItsEscape) {
  Child child([] { return attach_console("web"); }, Child::Terminal::Pty);
  accept();
  print("# ");
  EXPECT_EQ(child.read_until("# "), "# ");
  child.send("a\x03\x01\x01");
  EXPECT_EQ(typed(3), "a\x03\x01") << "Ctrl-C is the guest's";
  child.send("\x01x");
  EXPECT_EQ(child.wait(), 0);
  EXPECT_THAT(child.errors(), HasSubstr("left web; doppel console web comes back"));
}

TEST_F(Attach, AMachineThatIsNotThereIsAnError) {
  Child child([] { return attach_console("db"); });
  EXPECT_EQ(child.wait(), 1);
  EXPECT_THAT(child.errors(), HasSubstr("no machine named db is running"));
}

}  // namespace
}  // namespace doppel::cli
