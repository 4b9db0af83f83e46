#include "devices/pit_channel.h"

#include <gtest/gtest.h>

namespace doppel::devices {
namespace {

class PitChannelTest : public testing::Test {
 protected:
  void program(unsigned mode, std::uint16_t count, std::uint64_t tick, bool bcd = false) {
    channel.write_control(static_cast<std::uint8_t>(0x30 | mode << 1 | (bcd ? 1 : 0)));
    write(count, tick);
  }
  void write(std::uint16_t count, std::uint64_t tick) {
    channel.write_count(static_cast<std::uint8_t>(count), tick);
    channel.write_count(static_cast<std::uint8_t>(count >> 8), tick);
  }
  std::uint16_t read(std::uint64_t tick) {
    const std::uint8_t low = channel.read(tick);
    return static_cast<std::uint16_t>(channel.read(tick) << 8 | low);
  }
  std::uint8_t status(std::uint64_t tick) {
    channel.latch_status(tick);
    return channel.read(tick);
  }

  PitChannel channel{true};
};

TEST_F(PitChannelTest, CountIsLoadedOnTheNextClock) {
  program(0, 10, 100);
  EXPECT_EQ(read(100), 10);
  EXPECT_EQ(read(101), 10);
  EXPECT_EQ(read(102), 9);
  EXPECT_FALSE(channel.out(110));
  EXPECT_TRUE(channel.out(111));  // N + 1 clocks after the write
}

TEST_F(PitChannelTest, ModesTwoAndThreeHaveTwoEncodings) {
  channel.write_control(0x3C);
  EXPECT_EQ(status(0) & 0x0E, 0x04);
  channel.write_control(0x3E);
  EXPECT_EQ(status(0) & 0x0E, 0x06);
}

TEST_F(PitChannelTest, OutAfterTheControlWord) {
  for (unsigned mode = 0; mode < 6; ++mode) {
    channel.write_control(static_cast<std::uint8_t>(0x30 | mode << 1));
    EXPECT_EQ(channel.out(5), mode != 0) << mode;
  }
}

TEST_F(PitChannelTest, AccessModes) {
  channel.write_control(0x10 | 2 << 1);  // low byte only
  channel.write_count(0x34, 0);
  EXPECT_EQ(channel.read(1), 0x34);
  EXPECT_EQ(channel.read(2), 0x33);
  channel.write_control(0x20 | 2 << 1);  // high byte only
  channel.write_count(0x12, 0);
  EXPECT_EQ(channel.read(1), 0x12);
  EXPECT_EQ(channel.read(2), 0x11);
}

TEST_F(PitChannelTest, LatchedCountStaysUntilReadOnce) {
  program(2, 1000, 0);
  channel.latch_count(101);
  channel.latch_count(500);  // ignored
  EXPECT_EQ(read(700), 900);
  EXPECT_EQ(read(701), 300);
}

TEST_F(PitChannelTest, StatusComesBeforeTheLatchedCount) {
  program(2, 1000, 0);
  channel.latch_count(101);
  channel.latch_status(101);
  EXPECT_EQ(channel.read(101), 0xB4);
  EXPECT_EQ(read(101), 900);
}

TEST_F(PitChannelTest, StatusShowsNullCountUntilLoaded) {
  channel.write_control(0x34);
  EXPECT_EQ(status(0), 0xF4);
  write(100, 10);
  EXPECT_EQ(status(10), 0xF4);
  EXPECT_EQ(status(11), 0xB4);
  write(50, 20);
  EXPECT_EQ(status(20), 0xF4) << "the new count waits for the end of the period";
  EXPECT_EQ(status(111), 0xB4);
}

TEST_F(PitChannelTest, NewCountTakesOverAtTheEndOfThePeriod) {
  program(2, 100, 0);  // loaded at 1
  write(10, 50);
  EXPECT_EQ(read(51), 50);
  EXPECT_EQ(channel.next_rise(51), 101u);
  EXPECT_EQ(read(101), 10);
  EXPECT_EQ(channel.next_rise(101), 111u);
}

TEST_F(PitChannelTest, ModeZeroRewriteStartsAnew) {
  program(0, 100, 0);
  EXPECT_TRUE(channel.out(200));
  channel.write_count(0x10, 200);
  EXPECT_FALSE(channel.out(200)) << "the first byte takes OUT low";
  channel.write_count(0x00, 205);
  EXPECT_FALSE(channel.out(221));
  EXPECT_TRUE(channel.out(222));
}

TEST_F(PitChannelTest, GateStopsModeZero) {
  program(0, 100, 0);
  channel.set_gate(false, 41);
  EXPECT_EQ(read(1000), 60);
  channel.set_gate(true, 1000);
  EXPECT_EQ(read(1010), 50);
  EXPECT_TRUE(channel.out(1060));
}

TEST_F(PitChannelTest, GateRestartsModeTwo) {
  program(2, 100, 0);
  channel.set_gate(false, 41);
  EXPECT_TRUE(channel.out(100));
  EXPECT_EQ(channel.next_rise(100), std::nullopt);
  channel.set_gate(true, 1000);
  EXPECT_EQ(read(1001), 100);
  EXPECT_EQ(channel.next_rise(1001), 1101u);
}

TEST_F(PitChannelTest, GateTriggersModesOneAndFive) {
  program(1, 10, 0);
  EXPECT_TRUE(channel.out(50)) << "nothing happens before the trigger";
  channel.set_gate(false, 60);
  channel.set_gate(true, 100);
  EXPECT_TRUE(channel.out(100));
  EXPECT_FALSE(channel.out(101));
  EXPECT_TRUE(channel.out(111));
  channel.set_gate(false, 105);
  channel.set_gate(true, 106);  // retriggered
  EXPECT_FALSE(channel.out(116));
  EXPECT_TRUE(channel.out(117));

  program(5, 10, 200);
  channel.set_gate(false, 210);
  channel.set_gate(true, 220);
  EXPECT_EQ(channel.next_rise(221), 232u);
  EXPECT_FALSE(channel.out(231));
  EXPECT_TRUE(channel.out(232));
}

TEST_F(PitChannelTest, Bcd) {
  program(2, 0x1000, 0, true);
  EXPECT_EQ(read(1), 0x1000);
  EXPECT_EQ(read(2), 0x0999);
  EXPECT_EQ(channel.next_rise(2), 1001u);
  program(0, 0x0000, 2000, true);  // 10000
  EXPECT_FALSE(channel.out(12000));
  EXPECT_TRUE(channel.out(12001));
}

}  // namespace
}  // namespace doppel::devices
