#include "control/console_log.h"

#include <gtest/gtest.h>

#include "base/temporary_directory.h"

namespace doppel::control {
namespace {

std::string text_of(const std::string& path) {
  const auto bytes = read_file(path);
  return bytes ? std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()) : "(none)";
}

TEST(ConsoleLog, KeepsTheLastOfALongStory) {
  const test::TemporaryDirectory directory;
  const std::string path = directory / "log";
  const std::string older = directory / "log.1";
  auto log = ConsoleLog::create(path, older, 10);
  ASSERT_TRUE(log);
  const auto append = [&](const std::string& text) { log->append(std::as_bytes(std::span{text})); };
  append("0123456");
  EXPECT_EQ(text_of(path), "0123456");
  EXPECT_EQ(text_of(older), "(none)");
  append("789abc");
  EXPECT_EQ(text_of(older), "0123456789");
  EXPECT_EQ(text_of(path), "abc");
  append(std::string(25, 'x'));
  EXPECT_EQ(text_of(older), std::string(10, 'x'));
  EXPECT_EQ(text_of(path), std::string(8, 'x'));
}

TEST(ConsoleLog, UnwritablePathIsAnError) {
  EXPECT_FALSE(ConsoleLog::create("/dev/null/log", "/dev/null/log.1"));
}

}  // namespace
}  // namespace doppel::control
