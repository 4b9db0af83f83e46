#include "cli/escape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace doppel::cli {
namespace {

class EscapeTest : public testing::Test {
 protected:
  std::string ran_, shown_;
  EscapeFilter filter_{{{'x', "quit", [this] { ran_ += 'x'; }}, {'s', "status", [this] { ran_ += 's'; }}},
                       [this](const std::string& text) { shown_ += text; }};
};

TEST_F(EscapeTest, PassesEverythingElse) {
  const std::string typed("ls\r\x03\x1B[A\0\xFFx", 9);
  EXPECT_EQ(filter_.filter(typed), typed);
  EXPECT_EQ(ran_ + shown_, "");
}

TEST_F(EscapeTest, RunsActionsAlsoAcrossReads) {
  EXPECT_EQ(filter_.filter("a\x01sb\x01"), "ab");
  EXPECT_EQ(filter_.filter("xc"), "c");
  EXPECT_EQ(ran_, "sx");
}

TEST_F(EscapeTest, SendsTheEscapeItself) {
  EXPECT_EQ(filter_.filter("\x01\x01x"), "\x01x");
  EXPECT_EQ(ran_, "");
}

TEST_F(EscapeTest, HelpsOnHAndOnUnknownKeys) {
  EXPECT_EQ(filter_.filter("\x01h"), "");
  EXPECT_THAT(shown_, testing::HasSubstr("Ctrl-a x       quit"));
  shown_.clear();
  EXPECT_EQ(filter_.filter("\x01z"), "");
  EXPECT_THAT(shown_, testing::HasSubstr("Ctrl-a s       status"));
}

}  // namespace
}  // namespace doppel::cli
