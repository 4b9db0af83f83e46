#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/fd.h"
#include "base/temporary_directory.h"

namespace doppel::log {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string text_of(const std::string& path) {
  const auto bytes = read_file(path);
  return bytes ? std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()) : bytes.error().message;
}

class Log : public testing::Test {
 protected:
  void TearDown() override { ASSERT_TRUE(configure(Level::Warning, "")); }
  test::TemporaryDirectory directory_;
};

TEST_F(Log, WritesTheLevelAskedForAndAbove) {
  ASSERT_TRUE(configure(Level::Info, directory_ / "log"));
  debug("test", "below {}", 1);
  info("test", "at {}", 2);
  error("test", "above {}", 3);
  EXPECT_TRUE(enabled(Level::Info));
  EXPECT_FALSE(enabled(Level::Debug));
  EXPECT_THAT(text_of(directory_ / "log"), HasSubstr("info test: at 2\n"));
  EXPECT_THAT(text_of(directory_ / "log"), HasSubstr("error test: above 3\n"));
  EXPECT_THAT(text_of(directory_ / "log"), Not(HasSubstr("below")));
}

TEST_F(Log, OffIsSilent) {
  ASSERT_TRUE(configure(Level::Off, directory_ / "log"));
  error("test", "unheard");
  EXPECT_FALSE(enabled(Level::Error));
  EXPECT_FALSE(enabled(Level::Off));
  EXPECT_EQ(text_of(directory_ / "log"), "");
}

TEST_F(Log, BracesInMessagesAreText) {
  ASSERT_TRUE(configure(Level::Info, directory_ / "log"));
  write(Level::Info, "test", "{} {0}");
  EXPECT_THAT(text_of(directory_ / "log"), HasSubstr("test: {} {0}"));
}

TEST_F(Log, UnwritablePathIsAnError) {
  const auto result = configure(Level::Info, "/dev/null/log");
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("/dev/null/log"));
}

TEST(LogLevel, NamesRoundTripAndOthersAreRefused) {
  EXPECT_EQ(*parse_level("debug"), Level::Debug);
  EXPECT_EQ(*parse_level("off"), Level::Off);
  ASSERT_FALSE(parse_level("loud"));
  EXPECT_THAT(parse_level("loud").error().message, HasSubstr("use trace, debug"));
}

}  // namespace
}  // namespace doppel::log
