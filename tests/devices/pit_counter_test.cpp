#include "devices/pit_counter.h"

#include <gtest/gtest.h>

namespace doppel::devices {
namespace {

/// Counter values and OUT tick by tick, as the data sheet's figures 15 to 20 draw them.
struct Waveform {
  PitCount count;
  std::vector<std::uint16_t> values;
  std::string out;  ///< 'H' or 'L' for each tick
};

class PitWaveform : public testing::TestWithParam<Waveform> {};

TEST_P(PitWaveform, MatchesTheFigure) {
  const auto& [count, values, out] = GetParam();
  for (std::size_t tick = 0; tick < values.size(); ++tick) {
    EXPECT_EQ(count.value(tick), values[tick]) << "tick " << tick;
    EXPECT_EQ(count.out(tick) ? 'H' : 'L', out[tick]) << "tick " << tick;
  }
}

TEST_P(PitWaveform, NextRiseIsTheFirstRiseOfOut) {
  const auto& [count, values, out] = GetParam();
  for (std::size_t tick = 0; tick + 1 < out.size(); ++tick) {
    std::size_t rise = tick + 1;
    while (rise < out.size() && !(out[rise] == 'H' && out[rise - 1] == 'L')) ++rise;
    if (rise < out.size()) {
      EXPECT_EQ(count.next_rise(tick), rise) << "tick " << tick;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, PitWaveform,
                         testing::Values(Waveform{{0, 4}, {4, 3, 2, 1, 0, 0xFFFF, 0xFFFE}, "LLLLHHH"},
                                         Waveform{{1, 3}, {3, 2, 1, 0, 0xFFFF}, "LLLHH"},
                                         Waveform{{2, 3}, {3, 2, 1, 3, 2, 1, 3}, "HHLHHLH"},
                                         Waveform{{3, 4}, {4, 2, 4, 2, 4, 2, 4, 2}, "HHLLHHLL"},
                                         Waveform{{3, 5}, {4, 2, 0, 4, 2, 4, 2, 0, 4, 2}, "HHHLLHHHLL"},
                                         Waveform{{4, 3}, {3, 2, 1, 0, 0xFFFF, 0xFFFE}, "HHHLHH"},
                                         Waveform{{5, 3}, {3, 2, 1, 0, 0xFFFF, 0xFFFE}, "HHHLHH"},
                                         Waveform{{0, 2, true}, {2, 1, 0, 9999, 9998}, "LLHHH"}),
                         [](const auto& info) {
                           return "Mode" + std::to_string(info.param.count.mode) + "Count" +
                                  std::to_string(info.param.count.count) + (info.param.count.bcd ? "Bcd" : "");
                         });

TEST(PitCount, LargestCountsReadAsZero) {
  EXPECT_EQ((PitCount{2, 65536}.value(0)), 0);
  EXPECT_EQ((PitCount{2, 65536}.value(1)), 0xFFFF);
  EXPECT_EQ((PitCount{3, 65536}.value(0)), 0);
  EXPECT_EQ((PitCount{0, 65536}.value(0)), 0);
  EXPECT_EQ((PitCount{0, 65536}.value(65536)), 0);
}

TEST(PitCount, OneShotsRiseOnce) {
  EXPECT_EQ((PitCount{0, 100}.next_rise(0)), 100u);
  EXPECT_EQ((PitCount{0, 100}.next_rise(100)), std::nullopt);
  EXPECT_EQ((PitCount{4, 100}.next_rise(100)), 101u);
  EXPECT_EQ((PitCount{4, 100}.next_rise(101)), std::nullopt);
}

TEST(PitBcd, BothWays) {
  EXPECT_EQ(to_bcd(1234), 0x1234);
  EXPECT_EQ(to_bcd(10000), 0x0000);
  EXPECT_EQ(from_bcd(0x9876), 9876u);
}

}  // namespace
}  // namespace doppel::devices
