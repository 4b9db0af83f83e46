#include "devices/hpet.h"

#include <gtest/gtest.h>

#include "devices/line_probe.h"
#include "devices/manual_time.h"
#include "state/contract.h"

namespace doppel::devices {
namespace {

TEST(HpetComparator, TicksUntilMatch) {
  EXPECT_EQ(hpet_ticks_until_match(100, 150, false), 50u);
  EXPECT_EQ(hpet_ticks_until_match(0xFFFF'FFF0, 0x10, true), 0x20u) << "wraps at 32 bits";
  EXPECT_EQ(hpet_ticks_until_match(0x5'0000'0000, 7, true), 7u) << "only 32 bits are compared";
  EXPECT_EQ(hpet_ticks_until_match(5, 5, true), std::uint64_t{1} << 32);
  EXPECT_EQ(hpet_ticks_until_match(5, 5, false), kHpetNever);
  EXPECT_EQ(hpet_ticks_until_match(150, 100, false), kHpetNever) << "passed: thousands of years to come";
}

class HpetTest : public testing::Test {
 protected:
  HpetTest() {
    hpet.connect_legacy(legacy.line(0), legacy.line(8));
    hpet.set_on_legacy_route([this](bool on) { route_switches += on ? "+" : "-"; });
  }

  enum Offset : std::uint64_t { kCaps = 0x000, kConfig = 0x010, kStatus = 0x020, kCounter = 0x0F0 };
  static std::uint64_t timer_config(unsigned n) { return 0x100 + 0x20 * n; }
  static std::uint64_t timer_comparator(unsigned n) { return 0x108 + 0x20 * n; }
  std::uint64_t read(std::uint64_t offset) { return hpet.read(offset, 8); }
  void write(std::uint64_t offset, std::uint64_t value) { hpet.write(offset, 8, value); }
  void advance_ticks(std::int64_t ticks) { time.advance(ticks * Hpet::kNanosecondsPerTick); }

  static constexpr std::uint64_t kLevel = 2, kEnable = 4, kPeriodic = 8, kSetValue = 0x40, k32Bit = 0x100;
  static constexpr std::uint64_t route(unsigned pin) { return std::uint64_t{pin} << 9; }

  test::ManualTime time;
  test::LineProbe pins;
  test::LineProbe legacy;
  std::string route_switches;
  Hpet hpet{time.clock, time.timers, pins};
};

TEST_F(HpetTest, RegistersAfterReset) {
  EXPECT_EQ(read(kCaps), 0x0098'9680'8086'A201u) << "10 ns, three timers, 64 bits, legacy route, revision 1";
  EXPECT_EQ(read(kConfig), 0u);
  EXPECT_EQ(read(kStatus), 0u);
  EXPECT_EQ(read(kCounter), 0u);
  for (unsigned n = 0; n < 3; ++n) {
    EXPECT_EQ(read(timer_config(n)), 0x00FF'0000'0000'0030u);
    EXPECT_EQ(read(timer_comparator(n)), ~std::uint64_t{0});
  }
  EXPECT_EQ(read(timer_config(3)), 0u);
  EXPECT_EQ(read(0x3F8), 0u);
}

TEST_F(HpetTest, HalvesAreAccessible) {
  EXPECT_EQ(hpet.read(kCaps + 4, 4), 10'000'000u);
  hpet.write(timer_comparator(0) + 4, 4, 0x1234'5678);
  hpet.write(timer_comparator(0), 4, 0x9ABC'DEF0);
  EXPECT_EQ(read(timer_comparator(0)), 0x1234'5678'9ABC'DEF0u);
}

TEST_F(HpetTest, CounterRunsWhileEnabledAndIsWrittenWhileHalted) {
  advance_ticks(100);
  EXPECT_EQ(read(kCounter), 0u);
  write(kCounter, 1000);
  write(kConfig, 1);
  advance_ticks(50);
  EXPECT_EQ(read(kCounter), 1050u);
  write(kCounter, 5);
  EXPECT_EQ(read(kCounter), 1050u);
  write(kConfig, 0);
  advance_ticks(50);
  EXPECT_EQ(read(kCounter), 1050u);
}

TEST_F(HpetTest, OneShotOnItsRoute) {
  write(kConfig, 1);
  write(timer_config(2), kEnable | route(20));
  write(timer_comparator(2), 500);
  advance_ticks(499);
  EXPECT_EQ(pins.take_edges(20), 0u);
  advance_ticks(1);
  EXPECT_EQ(pins.take_edges(20), 1u);
  EXPECT_FALSE(pins.level(20));
  advance_ticks(std::int64_t{1} << 33);
  EXPECT_EQ(pins.take_edges(20), 0u);
}

TEST_F(HpetTest, ThirtyTwoBitTimerMatchesOncePerTurn) {
  write(kConfig, 1);
  write(timer_config(2), kEnable | k32Bit | route(20));
  write(timer_comparator(2), 0xAA'0000'0100);
  EXPECT_EQ(read(timer_comparator(2)), 0x100u);
  advance_ticks(0x100);
  EXPECT_EQ(pins.take_edges(20), 1u);
  advance_ticks((std::int64_t{1} << 32) - 1);
  EXPECT_EQ(pins.take_edges(20), 0u);
  advance_ticks(1);
  EXPECT_EQ(pins.take_edges(20), 1u);
}

/// Linux' sequence: accumulator and period by two writes, with the counter running.
TEST_F(HpetTest, PeriodicAccumulates) {
  write(kConfig, 1);
  advance_ticks(1000);
  write(timer_config(0), kEnable | kPeriodic | kSetValue | k32Bit | route(16));
  write(timer_comparator(0), 1100);
  write(timer_comparator(0), 200);
  EXPECT_EQ(read(timer_config(0)) & kSetValue, 0u);
  advance_ticks(100);
  EXPECT_EQ(pins.take_edges(16), 1u);
  EXPECT_EQ(read(timer_comparator(0)), 1300u);
  advance_ticks(600);
  EXPECT_EQ(pins.take_edges(16), 3u);
  EXPECT_EQ(read(timer_comparator(0)), 1900u);
}

TEST_F(HpetTest, MissedPeriodsAreOneInterrupt) {
  write(kConfig, 1);
  write(timer_config(0), kEnable | kPeriodic | kSetValue | route(16));
  write(timer_comparator(0), 100);
  time.stall_to(1050 * Hpet::kNanosecondsPerTick);
  EXPECT_EQ(pins.take_edges(16), 1u);
  EXPECT_EQ(read(timer_comparator(0)), 1100u);
}

TEST_F(HpetTest, AccumulatorMovesWithoutInterrupts) {
  write(kConfig, 1);
  write(timer_config(0), kPeriodic | kSetValue);
  write(timer_comparator(0), 100);
  EXPECT_EQ(time.timers.next_deadline(), time::kNever);
  advance_ticks(250);
  EXPECT_EQ(read(timer_comparator(0)), 300u);
}

TEST_F(HpetTest, LevelHoldsUntilTheStatusIsCleared) {
  write(kConfig, 1);
  write(timer_config(1), kEnable | kLevel | route(18));
  write(timer_comparator(1), 100);
  advance_ticks(100);
  EXPECT_TRUE(pins.level(18));
  EXPECT_EQ(read(kStatus), 2u);
  write(kStatus, 1);
  EXPECT_TRUE(pins.level(18));
  write(kStatus, 2);
  EXPECT_FALSE(pins.level(18));
}

TEST_F(HpetTest, RoutesOutsideTheCapabilityAreRefused) {
  write(timer_config(0), route(17));
  write(timer_config(0), route(2));
  EXPECT_EQ(read(timer_config(0)) & 0x3E00, route(17));
}

TEST_F(HpetTest, LegacyReplacementRoute) {
  write(timer_config(0), kEnable | route(16));
  write(timer_config(1), kEnable | route(17));
  write(timer_config(2), kEnable | route(18));
  for (unsigned n = 0; n < 3; ++n) write(timer_comparator(n), 100);
  write(kConfig, 3);
  EXPECT_EQ(route_switches, "+");
  advance_ticks(100);
  EXPECT_EQ(legacy.take_edges(0), 1u);
  EXPECT_EQ(legacy.take_edges(8), 1u);
  EXPECT_EQ(pins.take_edges(16) + pins.take_edges(17), 0u);
  EXPECT_EQ(pins.take_edges(18), 1u);
  write(kConfig, 1);
  hpet.reset(bus::ResetKind::Cold);
  EXPECT_EQ(route_switches, "+-");
}

TEST_F(HpetTest, HaltedTimersDoNotInterrupt) {
  write(kConfig, 1);
  write(timer_config(0), kEnable | route(16));
  write(timer_comparator(0), 100);
  write(kConfig, 0);
  EXPECT_EQ(time.timers.next_deadline(), time::kNever);
  advance_ticks(1000);
  write(kConfig, 1);
  advance_ticks(100);
  EXPECT_EQ(pins.take_edges(16), 1u);
}

TEST_F(HpetTest, LevelPendingAtSaveIsRaisedAgain) {
  write(timer_config(1), kEnable | kLevel | route(18));
  write(timer_comparator(1), 100);
  write(kConfig, 3);
  advance_ticks(100);
  ASSERT_TRUE(legacy.level(8));
  const auto saved = state::save(test::describe_of(hpet));
  hpet.reset(bus::ResetKind::Cold);
  ASSERT_FALSE(legacy.level(8));
  ASSERT_TRUE(state::load(saved, test::describe_of(hpet)).ok());
  EXPECT_TRUE(legacy.level(8));
  EXPECT_EQ(route_switches, "+-+");
}

TEST_F(HpetTest, Contract) {
  test::expect_contract(hpet, [this] {
    time.jump_to(12'340);
    write(kCounter, 99);
    write(timer_config(0), kEnable | kPeriodic | kSetValue | route(16));
    write(timer_comparator(0), 1000);
    write(timer_config(1), kEnable | kLevel | route(17));
    write(timer_comparator(1), 110);
    write(kConfig, 3);
    advance_ticks(50);
  });
  test::expect_schema("hpet", hpet);
}

}  // namespace
}  // namespace doppel::devices
