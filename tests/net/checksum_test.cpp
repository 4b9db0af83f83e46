#include "net/checksum.h"

#include <gtest/gtest.h>

#include <vector>

namespace doppel::net {
namespace {

TEST(Checksum, IsThatOfRfc1071) {
  // The RFC's example (section 3): 0001 f203 f4f5 f6f7 sums to ddf2; its complement goes into the field.
  std::vector<std::byte> frame;
  for (const int byte : {0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7, 0x00, 0x00}) {
    frame.push_back(static_cast<std::byte>(byte));
  }
  FrameHeader header;
  header.flags = FrameHeader::kNeedsChecksum;
  header.checksum_offset = 8;
  ASSERT_TRUE(complete_checksum(header, frame));
  EXPECT_EQ(frame[8], std::byte{0x22});
  EXPECT_EQ(frame[9], std::byte{0x0D});
}

TEST(Checksum, AnOddByteAtTheEndCounts) {
  std::vector<std::byte> frame(5);
  frame[4] = std::byte{0x01};
  FrameHeader header;
  ASSERT_TRUE(complete_checksum(header, frame));
  EXPECT_EQ(frame[0], std::byte{0xFE});
  EXPECT_EQ(frame[1], std::byte{0xFF});
}

TEST(Checksum, AFieldOutsideTheFrameIsRefused) {
  std::vector<std::byte> frame(10);
  FrameHeader header;
  header.checksum_start = 11;
  EXPECT_FALSE(complete_checksum(header, frame));
  header.checksum_start = 9;
  EXPECT_FALSE(complete_checksum(header, frame));
  header.checksum_start = 0;
  header.checksum_offset = 0xFFFF;
  EXPECT_FALSE(complete_checksum(header, frame));
}

}  // namespace
}  // namespace doppel::net
