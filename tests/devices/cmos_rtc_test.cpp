#include "devices/cmos_rtc.h"

#include <gtest/gtest.h>

#include "devices/line_probe.h"
#include "devices/manual_time.h"
#include "state/contract.h"

namespace doppel::devices {
namespace {

using time::kSecond;

class CmosRtcTest : public testing::Test {
 protected:
  CmosRtcTest() { rtc.connect_irq(probe.line(0)); }

  std::uint8_t read(std::uint8_t index) {
    rtc.write(0, 1, index);
    return static_cast<std::uint8_t>(rtc.read(1, 1));
  }
  void write(std::uint8_t index, std::uint8_t value) {
    rtc.write(0, 1, index);
    rtc.write(1, 1, value);
  }
  /// Century, year, month, day, weekday, hour, minute, second, as hexadecimal digits.
  std::string time_registers() {
    std::string text;
    for (const std::uint8_t index : {0x32, 0x09, 0x08, 0x07, 0x06, 0x04, 0x02, 0x00}) {
      char digits[4];
      std::snprintf(digits, sizeof digits, "%02x ", read(index));
      text += digits;
    }
    text.pop_back();
    return text;
  }
  bool irq() const { return probe.level(0); }

  static constexpr std::uint64_t kMib = 1 << 20;
  static constexpr std::int64_t kStart = 1'714'990'830;  // 2024-05-06 10:20:30 UTC, a Monday

  test::ManualTime time;
  test::LineProbe probe;
  CmosRtc rtc{{.utc_base = kStart * kSecond, .ram_below_4g = 3072 * kMib, .ram_above_4g = 5120 * kMib},
              time.clock,
              time.timers};
};

TEST_F(CmosRtcTest, TimeInEveryFormat) {
  const std::pair<std::uint8_t, const char*> table[] = {{0x02, "20 24 05 06 02 10 20 30"},
                                                        {0x06, "14 18 05 06 02 0a 14 1e"},
                                                        {0x00, "20 24 05 06 02 10 20 30"},
                                                        {0x04, "14 18 05 06 02 0a 14 1e"}};
  for (const auto& [b, text] : table) {
    write(0x0B, b);
    EXPECT_EQ(time_registers(), text) << int{b};
  }
}

TEST_F(CmosRtcTest, TwelveHourClock) {
  const std::pair<int, std::uint8_t> table[] = {{0, 0x12}, {1, 0x01}, {11, 0x11}, {12, 0x92}, {13, 0x81}, {23, 0x91}};
  for (const auto& [hour, value] : table) {
    write(0x0B, 0x02);
    write(0x04, static_cast<std::uint8_t>(hour / 10 << 4 | hour % 10));
    write(0x0B, 0x00);
    EXPECT_EQ(read(0x04), value) << hour;
    write(0x04, value);
    write(0x0B, 0x02);
    EXPECT_EQ(read(0x04), hour / 10 << 4 | hour % 10) << hour;
  }
}

TEST_F(CmosRtcTest, RunsWithTheClock) {
  time.advance(29 * kSecond + 999'999'999);
  EXPECT_EQ(time_registers(), "20 24 05 06 02 10 20 59");
  time.advance(1);
  EXPECT_EQ(time_registers(), "20 24 05 06 02 10 21 00");
}

TEST_F(CmosRtcTest, UpdateInProgressBeforeEachSecond) {
  EXPECT_EQ(read(0x0A), 0x26);
  time.jump_to(kSecond - 2'228'001);
  EXPECT_EQ(read(0x0A), 0x26);
  time.jump_to(kSecond - 2'228'000);
  EXPECT_EQ(read(0x0A), 0xA6);
  time.jump_to(kSecond - 1);
  EXPECT_EQ(read(0x0A), 0xA6);
  time.jump_to(kSecond);
  EXPECT_EQ(read(0x0A), 0x26);
  write(0x0B, 0x82);
  time.jump_to(2 * kSecond - 1);
  EXPECT_EQ(read(0x0A), 0x26) << "SET stops updates";
}

/// The way Linux sets the clock: SET, divider reset, registers, back.
TEST_F(CmosRtcTest, SettingTheTime) {
  time.jump_to(10 * kSecond + 700'000'000);
  write(0x0B, 0x82);
  write(0x0A, 0x76);
  time.advance(3 * kSecond);
  EXPECT_EQ(time_registers(), "20 24 05 06 02 10 20 40") << "it stands still";
  const std::pair<std::uint8_t, std::uint8_t> values[] = {{0x32, 0x19}, {0x09, 0x99}, {0x08, 0x12}, {0x07, 0x31},
                                                          {0x04, 0x23}, {0x02, 0x59}, {0x00, 0x58}};
  for (const auto& [index, value] : values) write(index, value);
  write(0x0B, 0x02);
  write(0x0A, 0x26);
  EXPECT_EQ(time_registers(), "19 99 12 31 06 23 59 58");
  time.advance(499'999'999);
  EXPECT_EQ(read(0x00), 0x58);
  time.advance(1);
  EXPECT_EQ(read(0x00), 0x59) << "the first second ends after half of it";
  time.advance(kSecond);
  EXPECT_EQ(time_registers(), "20 00 01 01 07 00 00 00");
}

TEST_F(CmosRtcTest, SetAloneKeepsTheDividerRunning) {
  time.jump_to(700'000'000);
  write(0x0B, 0x82);
  time.jump_to(5 * kSecond + 900'000'000);
  write(0x00, 0x10);
  write(0x0B, 0x02);
  time.advance(99'999'999);
  EXPECT_EQ(read(0x00), 0x10);
  time.advance(1);
  EXPECT_EQ(read(0x00), 0x11);
}

TEST_F(CmosRtcTest, WriteWithoutSetTakesEffect) {
  time.jump_to(300'000'000);
  write(0x04, 0x20);
  EXPECT_EQ(time_registers(), "20 24 05 06 02 20 20 30");
  time.advance(700'000'000);
  EXPECT_EQ(read(0x00), 0x31);
}

TEST_F(CmosRtcTest, NonsenseIsNoCrash) {
  for (const std::uint8_t b : {0x00, 0x02, 0x04, 0x06}) {
    write(0x0B, b);
    for (const std::uint8_t value : {0x00, 0xFF, 0x80, 0x3C}) {
      for (const std::uint8_t index : {0x32, 0x09, 0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, 0x00}) {
        write(index, value);
        (void)time_registers();
      }
    }
  }
  (void)read(0x0C);
}

// --- Interrupts ---

TEST_F(CmosRtcTest, UpdateEndedInterruptsEachSecondUntilRead) {
  write(0x0B, 0x12);
  (void)read(0x0C);
  time.advance(kSecond - 1);
  EXPECT_FALSE(irq());
  time.advance(1);
  EXPECT_TRUE(irq());
  EXPECT_EQ(time.timers.next_deadline(), time::kNever) << "nothing to wake for until register C is read";
  EXPECT_EQ(read(0x0C) & 0x90, 0x90);
  EXPECT_FALSE(irq());
  EXPECT_EQ(read(0x0C), 0x00);
  time.advance(kSecond);
  EXPECT_TRUE(irq());
}

TEST_F(CmosRtcTest, SetClearsUpdateInterruptEnable) {
  write(0x0B, 0x92);
  EXPECT_EQ(read(0x0B), 0x82);
}

TEST_F(CmosRtcTest, PeriodicRates) {
  const std::pair<std::uint8_t, int> table[] = {{0x1, 256}, {0x2, 128}, {0x3, 8192}, {0x6, 1024}, {0x7, 512},
                                                {0xA, 64},  {0xD, 8},   {0xE, 4},    {0xF, 2}};
  for (const auto& [rate, hz] : table) {
    rtc.reset(bus::ResetKind::Warm);
    write(0x0A, static_cast<std::uint8_t>(0x20 | rate));
    write(0x0B, 0x42);
    const time::Nanoseconds start = time.clock.now();
    int interrupts = 0;
    while (time.timers.next_deadline() <= start + kSecond) {
      time.advance_to(time.timers.next_deadline());
      ASSERT_TRUE(irq());
      (void)read(0x0C);
      ++interrupts;
    }
    EXPECT_EQ(interrupts, hz) << int{rate};
    time.jump_to(start + kSecond);
  }
  write(0x0A, 0x20);
  EXPECT_EQ(time.timers.next_deadline(), time::kNever) << "rate 0 is none";
}

TEST_F(CmosRtcTest, AlarmAtItsTime) {
  write(0x01, 0x00);
  write(0x03, 0x22);
  write(0x05, 0xC0);
  write(0x0B, 0x22);
  (void)read(0x0C);
  EXPECT_EQ(time.timers.next_deadline(), 90 * kSecond);
  time.advance(90 * kSecond - 1);
  EXPECT_FALSE(irq());
  time.advance(1);
  EXPECT_TRUE(irq());
  EXPECT_EQ(read(0x0C) & 0xA0, 0xA0);
  EXPECT_EQ(time.timers.next_deadline(), 90 * kSecond + 3600 * kSecond);
}

TEST_F(CmosRtcTest, FlagsWithoutEnablesAreSeenByPolling) {
  (void)read(0x0C);
  time.jump_to(2 * kSecond);
  EXPECT_EQ(time.timers.next_deadline(), time::kNever) << "no timer for a guest that only polls";
  EXPECT_EQ(read(0x0C), 0x50);
  EXPECT_EQ(read(0x0C), 0x00);
  EXPECT_FALSE(irq());
}

TEST_F(CmosRtcTest, EnablingARaisedFlagInterruptsAtOnce) {
  time.jump_to(2 * kSecond);
  write(0x0B, 0x12);
  EXPECT_TRUE(irq());
}

// --- RAM ---

TEST_F(CmosRtcTest, MemorySizes) {
  EXPECT_EQ(read(0x15) | read(0x16) << 8, 640);
  EXPECT_EQ(read(0x17) | read(0x18) << 8, 0xFFFF) << "more than the field holds";
  EXPECT_EQ(read(0x30) | read(0x31) << 8, 0xFFFF);
  EXPECT_EQ(read(0x34) | read(0x35) << 8, (3072 - 16) * 16);
  EXPECT_EQ(read(0x5B) | read(0x5C) << 8 | read(0x5D) << 16, 5120 * 16);
  CmosRtc small({.ram_below_4g = 4 * kMib}, time.clock, time.timers);
  small.write(0, 1, 0x17);
  EXPECT_EQ(small.read(1, 1), (3u * 1024) & 0xFF);
  small.write(0, 1, 0x18);
  EXPECT_EQ(small.read(1, 1), (3u * 1024) >> 8);
  small.write(0, 1, 0x34);
  EXPECT_EQ(small.read(1, 1), 0u);
}

TEST_F(CmosRtcTest, ChecksumCoversItsRange) {
  unsigned sum = 0;
  for (std::uint8_t i = 0x10; i <= 0x2D; ++i) sum += read(i);
  EXPECT_EQ(read(0x2E) << 8 | read(0x2F), static_cast<int>(sum));
}

TEST_F(CmosRtcTest, RamSurvivesAWarmResetAndNmiMaskIsIgnored) {
  write(0x0F | 0x80, 0x0A);
  write(0x0B, 0x7E);
  rtc.reset(bus::ResetKind::Warm);
  EXPECT_EQ(read(0x0F), 0x0A);
  EXPECT_EQ(read(0x0B), 0x06);
  rtc.reset(bus::ResetKind::Cold);
  EXPECT_EQ(read(0x0F), 0x00);
}

TEST_F(CmosRtcTest, ReadOnlyRegisters) {
  write(0x0D, 0x00);
  EXPECT_EQ(read(0x0D), 0x80);
  write(0x0C, 0xFF);
  EXPECT_EQ(read(0x0C), 0x00);
  EXPECT_EQ(rtc.read(0, 1), 0xFFu) << "the index port";
}

TEST_F(CmosRtcTest, InterruptPendingAtSaveIsRaisedAgain) {
  write(0x0B, 0x12);
  time.advance(kSecond);
  ASSERT_TRUE(irq());
  const auto saved = state::save(test::describe_of(rtc));
  rtc.reset(bus::ResetKind::Cold);
  ASSERT_FALSE(irq());
  ASSERT_TRUE(state::load(saved, test::describe_of(rtc)).ok());
  EXPECT_TRUE(irq());
}

TEST_F(CmosRtcTest, Contract) {
  test::expect_contract(rtc, [this] {
    time.jump_to(12'345'678'901);
    write(0x0B, 0x82);
    write(0x07, 0x13);
    write(0x0B, 0x72);
    write(0x05, 0x13);
    write(0x40, 0x99);
    rtc.write(0, 1, 0x33);
  });
  test::expect_schema("rtc", rtc);
}

}  // namespace
}  // namespace doppel::devices
