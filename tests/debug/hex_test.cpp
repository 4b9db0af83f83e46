#include "debug/hex.h"

#include <gtest/gtest.h>

namespace doppel::debug {
namespace {

TEST(Hex, NumbersAreReadWholeOrNotAtAll) {
  EXPECT_EQ(number_from_hex("ffffffff81000000"), 0xFFFF'FFFF'8100'0000U);
  EXPECT_EQ(number_from_hex("0"), 0U);
  EXPECT_FALSE(number_from_hex(""));
  EXPECT_FALSE(number_from_hex("12x"));
  EXPECT_FALSE(number_from_hex("-1"));
  EXPECT_FALSE(number_from_hex("10000000000000000"));
}

TEST(Hex, BytesArePairsOfDigits) {
  const auto bytes = bytes_from_hex("00fFa5");
  ASSERT_TRUE(bytes);
  EXPECT_EQ(*bytes, (std::vector{std::byte{0}, std::byte{0xFF}, std::byte{0xA5}}));
  EXPECT_EQ(to_hex(*bytes), "00ffa5");
  EXPECT_FALSE(bytes_from_hex("0"));
  EXPECT_FALSE(bytes_from_hex("0g"));
}

TEST(Hex, CutLeavesTheRest) {
  std::string_view text = "a,b,c";
  EXPECT_EQ(cut(text, ','), "a");
  EXPECT_EQ(text, "b,c");
  EXPECT_EQ(cut(text, ':'), "b,c");
  EXPECT_TRUE(text.empty());
}

}  // namespace
}  // namespace doppel::debug
