#include "control/console_log.h"

#include <gtest/gtest.h>

#include "base/temporary_directory.h"

namespace doppel::control {
namespace {

class ConsoleLogTest : public testing::Test {
 protected:
  static constexpr std::size_t kLength = 10;

  void SetUp() override {
    auto log = ConsoleLog::create(path_, other_, kLength);
    ASSERT_TRUE(log) << log.error().message;
    log_.emplace(*std::move(log));
  }
  void append(const std::string& text) { log_->append(std::as_bytes(std::span{text})); }
  static std::string text_of(const std::string& path) {
    const auto bytes = read_file(path);
    return bytes ? std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()) : "(none)";
  }
  ConsoleLogReader reader() {
    auto made = ConsoleLogReader::open(path_, other_, kLength);
    EXPECT_TRUE(made);
    return *std::move(made);
  }
  static std::string rest_of(ConsoleLogReader& reader) {
    std::string text;
    EXPECT_TRUE(reader.read([&text](std::span<const std::byte> bytes) {
      text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      return true;
    }));
    return text;
  }

  const test::TemporaryDirectory directory_;
  const std::string path_ = directory_ / "log", other_ = directory_ / "log.1";
  std::optional<ConsoleLog> log_;
};

TEST_F(ConsoleLogTest, KeepsTheLastOfALongStory) {
  append("0123456");
  EXPECT_EQ(text_of(path_), "0123456");
  append("789abc");
  EXPECT_EQ(text_of(path_), "0123456789");
  EXPECT_EQ(text_of(other_), "abc");
  append(std::string(25, 'x'));
  EXPECT_EQ(text_of(path_), std::string(10, 'x'));
  EXPECT_EQ(text_of(other_), std::string(8, 'x'));
}

TEST_F(ConsoleLogTest, UnwritablePathIsAnError) {
  EXPECT_FALSE(ConsoleLog::create("/dev/null/log", "/dev/null/log.1"));
}

TEST_F(ConsoleLogTest, AReaderBeginsWithTheOldestAndFollows) {
  append("0123456789abc");
  ConsoleLogReader log = reader();
  EXPECT_EQ(rest_of(log), "0123456789abc");
  EXPECT_EQ(rest_of(log), "");
  append("d");
  EXPECT_EQ(rest_of(log), "d");
  append("efghijABCDE");
  EXPECT_EQ(rest_of(log), "efghijABCDE") << "across the turn";
  EXPECT_EQ(rest_of(log), "");
}

TEST_F(ConsoleLogTest, AReaderFollowsByteByByte) {
  ConsoleLogReader log = reader();
  std::string written, read;
  for (int i = 0; i < 57; ++i) {
    const std::string text(1, static_cast<char>('A' + i));
    append(text);
    written += text;
    read += rest_of(log);
  }
  EXPECT_EQ(read, written);
}

TEST_F(ConsoleLogTest, AReaderThatFallsBehindGoesOnWithWhatIsKept) {
  ConsoleLogReader log = reader();
  append("0123");
  EXPECT_EQ(rest_of(log), "0123");
  append("456789");
  append("abcdefghij");
  append("AB");
  EXPECT_EQ(rest_of(log), "abcdefghijAB");
}

TEST_F(ConsoleLogTest, AReaderMayBeToldThatIsEnough) {
  append("0123");
  ConsoleLogReader log = reader();
  EXPECT_FALSE(log.read([](std::span<const std::byte>) { return false; }));
}

}  // namespace
}  // namespace doppel::control
