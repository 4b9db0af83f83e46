#include "base/bits.h"

#include <gtest/gtest.h>

#include <array>

namespace doppel {
namespace {

TEST(Bits, SelectsBothEnds) {
  EXPECT_EQ(bits(0xABCD, 15, 12), 0xAU);
  EXPECT_EQ(bits(0xABCD, 0, 0), 1U);
  EXPECT_EQ(bits(~std::uint64_t{0}, 63, 0), ~std::uint64_t{0});
  EXPECT_EQ(bits(bit(63), 63, 63), 1U);
}

TEST(Bits, LowMaskReaches64) {
  EXPECT_EQ(low_mask(0), 0U);
  EXPECT_EQ(low_mask(8), 0xFFU);
  EXPECT_EQ(low_mask(64), ~std::uint64_t{0});
}

TEST(Bits, Aligns) {
  EXPECT_EQ(align_down(0x1FFF, 0x1000), 0x1000U);
  EXPECT_EQ(align_up(0x1001, 0x1000), 0x2000U);
  EXPECT_EQ(align_up(0x1000, 0x1000), 0x1000U);
}

TEST(Bits, SignExtends) {
  EXPECT_EQ(sign_extend(0x80, 8), -128);
  EXPECT_EQ(sign_extend(0x17F, 8), 127);
  EXPECT_EQ(sign_extend(bit(63), 64), INT64_MIN);
}

TEST(Bits, LoadsAndStoresUnaligned) {
  std::array<std::byte, 8> bytes{};
  store_le(bytes.data() + 1, std::uint32_t{0x04030201});
  EXPECT_EQ(bytes[1], std::byte{1});
  EXPECT_EQ(bytes[4], std::byte{4});
  EXPECT_EQ(load_le<std::uint16_t>(bytes.data() + 2), 0x0302U);
}

TEST(Bits, BigEndianIsTheOtherOrder) {
  std::array<std::byte, 9> bytes{};
  store_be(bytes.data() + 1, std::uint64_t{0x0102030405060708});
  EXPECT_EQ(bytes[1], std::byte{1});
  EXPECT_EQ(bytes[8], std::byte{8});
  EXPECT_EQ(load_be<std::uint16_t>(bytes.data() + 2), 0x0203U);
  EXPECT_EQ(load_be<std::uint32_t>(bytes.data() + 5), 0x05060708U);
  EXPECT_EQ(load_be<std::uint8_t>(bytes.data() + 3), 3U);
}

}  // namespace
}  // namespace doppel
