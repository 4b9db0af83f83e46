#include "cli/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace doppel::cli {
namespace {

TEST(ParseSize, UnderstandsUnits) {
  const std::vector<std::pair<const char*, std::uint64_t>> cases{
      {"64M", 64U << 20},   {"64MiB", 64U << 20},
      {"64mb", 64U << 20},  {"1G", 1U << 30},
      {"1.5G", 3U << 29},   {"0M", 0},
      {"100K", 100U << 10}, {"2T", std::uint64_t{2} << 40},
  };
  for (const auto& [text, bytes] : cases) {
    const auto size = parse_size(text);
    ASSERT_TRUE(size) << text;
    EXPECT_EQ(*size, bytes) << text;
  }
}

TEST(ParseSize, RefusesTheRestAndSaysHow) {
  for (const char* text : {"", "512", "M", "-1G", "1X", "1GG", "1G ", " 1G", "1e3M", "inf", "nan", "0x10M", "1,5G",
                           "99999999999999T", "1MiBs"}) {
    const auto size = parse_size(text);
    ASSERT_FALSE(size) << text;
    EXPECT_THAT(size.error().message, testing::HasSubstr("such as 512M or 2G"));
  }
}

TEST(FormatSize, IsShortAndExactWherePossible) {
  EXPECT_EQ(format_size(0), "0B");
  EXPECT_EQ(format_size(64U << 20), "64M");
  EXPECT_EQ(format_size(std::uint64_t{6} << 30), "6G");
  EXPECT_EQ(format_size(3U << 29), "1.5G");
}

TEST(FormatAge, UsesTheUnitThatFits) {
  EXPECT_EQ(format_age(3), "3 s");
  EXPECT_EQ(format_age(12 * 60 + 5), "12 min");
  EXPECT_EQ(format_age(5 * 3600), "5 h");
  EXPECT_EQ(format_age(3 * 86400), "3 d");
}

}  // namespace
}  // namespace doppel::cli
