#include "snapshot/checksum.h"

#include <gtest/gtest.h>

#include <string_view>

namespace doppel::snapshot {
namespace {

std::uint32_t of(std::string_view text) {
  return crc32c(std::as_bytes(std::span{text}));
}

TEST(Checksum, IsThatOfTheStandard) {
  EXPECT_EQ(of(""), 0U);
  EXPECT_EQ(of("123456789"), 0xE306'9283U) << "the check value of the CRC catalogue";
  EXPECT_EQ(of(std::string(32, '\0')), 0x8A91'36AAU) << "RFC 3720, B.4";
}

}  // namespace
}  // namespace doppel::snapshot
