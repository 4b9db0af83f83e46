#include "control/output_queue.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include "control/loop_thread.h"

namespace doppel::control {
namespace {

class OutputQueueTest : public testing::Test {
 protected:
  OutputQueueTest() {
    std::signal(SIGPIPE, SIG_IGN);
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    read_ = UniqueFd(ends[0]);
    write_ = UniqueFd(ends[1]);
  }

  std::shared_ptr<OutputQueue> make(
      OutputQueue::WhenFull when_full, std::function<void()> on_broken = [] {}) {
    return OutputQueue::create(thread_.loop(), write_.get(), when_full, std::move(on_broken));
  }
  std::string read(std::size_t length) {
    std::string text(length, '\0');
    for (std::size_t done = 0; done < length;) {
      const ssize_t got = ::read(read_.get(), text.data() + done, length - done);
      if (got <= 0) return text.substr(0, done);
      done += static_cast<std::size_t>(got);
    }
    return text;
  }

  UniqueFd read_, write_;
  test::LoopThread thread_;
};

std::string pattern(std::size_t length) {
  std::string text(length, '\0');
  for (std::size_t i = 0; i < length; ++i) text[i] = static_cast<char>(i * 7 + i / 251);
  return text;
}

std::span<const std::byte> bytes(const std::string& text) {
  return std::as_bytes(std::span{text});
}

TEST_F(OutputQueueTest, WritesAtOnceWhatFits) {
  const auto queue = make(OutputQueue::WhenFull::Wait);
  queue->write(bytes("hello"));
  ASSERT_EQ(::fcntl(read_.get(), F_SETFL, O_NONBLOCK), 0);
  EXPECT_EQ(read(5), "hello");
  thread_.run([&] { queue->close(); });
}

TEST_F(OutputQueueTest, LosesNothingToASlowReader) {
  const auto queue = make(OutputQueue::WhenFull::Wait);
  const std::string text = pattern(3 * OutputQueue::kLimit);  // more than may wait: the writer has to
  std::thread writer([&] { queue->write(bytes(text)); });
  EXPECT_EQ(read(text.size()), text);
  writer.join();
  thread_.run([&] { queue->close(); });
}

TEST_F(OutputQueueTest, TellsWhenEverythingHasBeenTaken) {
  const auto queue = make(OutputQueue::WhenFull::Wait);
  const std::string text = pattern(500'000);
  queue->write(bytes(text));
  std::promise<void> empty;
  bool told = false;
  thread_.run([&] {
    queue->when_empty([&] {
      told = true;
      empty.set_value();
    });
  });
  thread_.run([&] { EXPECT_FALSE(told); });
  EXPECT_EQ(read(text.size()), text);
  empty.get_future().wait();
  thread_.run([&] { queue->close(); });
}

TEST_F(OutputQueueTest, StopWaitingReleasesTheWriter) {
  const auto queue = make(OutputQueue::WhenFull::Wait);
  std::thread writer([&] { queue->write(bytes(pattern(3 * OutputQueue::kLimit))); });
  queue->stop_waiting();
  writer.join();
  thread_.run([&] { queue->close(); });
}

TEST_F(OutputQueueTest, ReportsAClosedReaderOnce) {
  int reports = 0;
  std::promise<void> reported;
  const auto queue = make(OutputQueue::WhenFull::Wait, [&] {
    if (++reports == 1) reported.set_value();
  });
  read_.reset();
  queue->write(bytes("x"));
  queue->write(bytes("y"));
  reported.get_future().wait();
  bool told = false;
  thread_.run([&] { queue->when_empty([&] { told = true; }); });
  EXPECT_TRUE(told) << "nothing will be taken any more";
  thread_.run([&] { queue->close(); });
  EXPECT_EQ(reports, 1);
}

TEST_F(OutputQueueTest, BreaksRatherThanWaitWhereToldTo) {
  std::promise<void> broken;
  const auto queue = make(OutputQueue::WhenFull::Break, [&] { broken.set_value(); });
  queue->write(bytes(pattern(3 * OutputQueue::kLimit)));  // comes back although nobody reads
  broken.get_future().wait();
  thread_.run([&] { queue->close(); });
}

TEST_F(OutputQueueTest, NothingHappensAfterClose) {
  int reports = 0;
  const auto queue = make(OutputQueue::WhenFull::Wait, [&] { ++reports; });
  thread_.run([&] { queue->close(); });
  read_.reset();
  queue->write(bytes("x"));
  thread_.run([] {});
  EXPECT_EQ(reports, 0);
}

}  // namespace
}  // namespace doppel::control
