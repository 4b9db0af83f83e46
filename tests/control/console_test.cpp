#include "control/console.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <condition_variable>

#include "base/temporary_directory.h"
#include "control/loop_thread.h"
#include "control/unix_socket.h"

namespace doppel::control {
namespace {

/// What the guest got, to wait for.
class Guest {
 public:
  SerialInput::Port port() {
    return [this](std::span<const std::byte> bytes) {
      const std::lock_guard guard(mutex_);
      got_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      changed_.notify_all();
      return bytes.size();
    };
  }
  void await(const std::string& text) {
    std::unique_lock guard(mutex_);
    changed_.wait(guard, [&] { return got_ == text; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string got_;
};

class ConsoleTest : public testing::Test {
 protected:
  ConsoleTest() {
    thread_.run([this] {
      console_.emplace(thread_.loop(), input_);
      console_->serve(listen_unix(path_).value());
    });
  }
  ~ConsoleTest() override {
    thread_.run([this] { console_.reset(); });
  }

  /// A client that the console has accepted: what it typed has reached the guest.
  UniqueFd attach(const std::string& typed, const std::string& all_typed) {
    UniqueFd client = connect_unix(path_).value();
    EXPECT_EQ(::send(client.get(), typed.data(), typed.size(), 0), static_cast<ssize_t>(typed.size()));
    guest_.await(all_typed);
    return client;
  }
  void print(const std::string& text) { console_->guest_output(std::as_bytes(std::span{text})); }

  test::TemporaryDirectory directory_;
  std::string path_ = directory_ / "console.sock";
  test::LoopThread thread_;
  Guest guest_;
  SerialInput input_{thread_.loop(), guest_.port()};
  std::optional<Console> console_;
};

std::string read(const UniqueFd& fd, std::size_t length) {
  std::string text(length, '\0');
  std::size_t done = 0;
  while (done < length) {
    const ssize_t got = ::read(fd.get(), text.data() + done, length - done);
    if (got <= 0) break;
    done += static_cast<std::size_t>(got);
  }
  return text.substr(0, done);
}

TEST_F(ConsoleTest, AllClientsSeeAndType) {
  const UniqueFd first = attach("ab", "ab");
  const UniqueFd second = attach("c", "abc");
  print("hello");
  EXPECT_EQ(read(first, 5), "hello");
  EXPECT_EQ(read(second, 5), "hello");
}

TEST_F(ConsoleTest, AClientMayLeave) {
  attach("x", "x");
  const UniqueFd second = attach("y", "xy");
  print("still here");
  EXPECT_EQ(read(second, 10), "still here");
}

TEST_F(ConsoleTest, AClientThatDoesNotReadIsDropped) {
  const UniqueFd lazy = attach("x", "x");
  for (int i = 0; i < 64; ++i) print(std::string(65536, 'z'));
  // Everything up to the drop, then the end.
  std::array<char, 65536> buffer{};
  ssize_t got = 0;
  while ((got = ::read(lazy.get(), buffer.data(), buffer.size())) > 0) {
  }
  EXPECT_EQ(got, 0);
  const UniqueFd next = attach("y", "xy");
  print("goes on");
  EXPECT_EQ(read(next, 7), "goes on");
}

TEST_F(ConsoleTest, KeepsALog) {
  thread_.run([this] { console_->set_log(ConsoleLog::create(directory_ / "log", directory_ / "log.1").value()); });
  print("for later");
  const auto bytes = read_file(directory_ / "log");
  ASSERT_TRUE(bytes);
  EXPECT_EQ(bytes->size(), 9U);
}

TEST_F(ConsoleTest, LimitsItsClients) {
  std::vector<UniqueFd> clients;
  std::string all;
  for (std::size_t i = 0; i < Console::kMaxClients; ++i) {
    all += 'x';
    clients.push_back(attach("x", all));
  }
  const UniqueFd refused = connect_unix(path_).value();
  EXPECT_EQ(read(refused, 1), "") << "one too many is closed at once";
}

}  // namespace
}  // namespace doppel::control
