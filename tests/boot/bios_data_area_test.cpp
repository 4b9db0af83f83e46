#include "boot/bios_data_area.h"

#include <gtest/gtest.h>

#include "boot/kernel_images.h"

namespace doppel::boot {
namespace {

TEST(BiosDataArea, TellsWhatAPcBiosTells) {
  const auto memory = test::make_memory(1);
  write_bios_data_area(*memory);
  const auto word = [&](std::uint64_t address) { return test::get<std::uint16_t>(*memory, address); };
  EXPECT_EQ(word(0x400), 0x3F8);
  EXPECT_EQ(word(0x402), 0x2F8);
  EXPECT_EQ(word(0x404), 0x3E8);
  EXPECT_EQ(word(0x406), 0x2E8);
  EXPECT_EQ(word(0x408), 0) << "no parallel port";
  EXPECT_EQ(word(0x40E), 0x9FC0);
  EXPECT_EQ(word(0x410) >> 9 & 7, 4) << "serial ports";
  EXPECT_EQ(word(0x413), 639);
  EXPECT_EQ(word(0x41A), word(0x41C)) << "the keyboard buffer is empty";
  EXPECT_EQ(test::get<std::uint8_t>(*memory, std::uint64_t{word(0x40E)} << 4), 1) << "the EBDA's size in KiB";
}

}  // namespace
}  // namespace doppel::boot
