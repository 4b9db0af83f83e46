#include "devices/pit8254.h"

#include <gtest/gtest.h>

#include "devices/line_probe.h"
#include "devices/manual_time.h"
#include "state/contract.h"

namespace doppel::devices {
namespace {

class Pit8254Test : public testing::Test {
 protected:
  Pit8254Test() { pit.connect_irq(probe.line(0)); }

  void out(unsigned port, std::uint8_t value) { pit.ports().write(port, 1, value); }
  std::uint8_t in(unsigned port) { return static_cast<std::uint8_t>(pit.ports().read(port, 1)); }
  void port61(std::uint8_t value) { pit.port61().write(0, 1, value); }
  std::uint8_t port61() { return static_cast<std::uint8_t>(pit.port61().read(0, 1)); }
  static time::Nanoseconds tick(std::uint64_t n) { return time::time_of_tick(n, Pit8254::kClockHz); }
  void program(std::uint8_t control, std::uint16_t count) {
    out(3, control);
    out(control >> 6, static_cast<std::uint8_t>(count));
    out(control >> 6, static_cast<std::uint8_t>(count >> 8));
  }
  unsigned edges() { return probe.take_edges(0); }

  test::ManualTime time;
  test::LineProbe probe;
  Pit8254 pit{time.clock, time.timers};
};

TEST_F(Pit8254Test, PeriodicModesInterruptEveryPeriod) {
  for (const std::uint8_t control : {0x34, 0x36}) {
    pit.reset(bus::ResetKind::Cold);
    program(control, 1000);
    edges();
    time.advance(tick(10'001));
    EXPECT_EQ(edges(), 10u) << std::hex << int{control};
  }
}

TEST_F(Pit8254Test, OneShotInterruptsOnce) {
  program(0x30, 500);  // mode 0
  EXPECT_FALSE(probe.level(0));
  time.advance(tick(500));
  EXPECT_EQ(edges(), 0u);
  time.advance(tick(2));
  EXPECT_EQ(edges(), 1u);
  time.advance(tick(200'000));
  EXPECT_EQ(edges(), 0u);
  program(0x38, 500);  // mode 4, as Linux' one-shot clock event
  edges();
  time.advance(tick(505));
  EXPECT_EQ(edges(), 1u);
}

TEST_F(Pit8254Test, MissedPeriodsAreOneInterrupt) {
  program(0x34, 1000);
  edges();
  time.stall_to(tick(5500));
  EXPECT_EQ(edges(), 1u);
  time.advance_to(tick(6001));
  EXPECT_EQ(edges(), 1u) << "in step with the old periods";
}

TEST_F(Pit8254Test, ControlWordSilencesTheCounter) {
  program(0x34, 1000);
  out(3, 0x34);
  EXPECT_EQ(time.timers.next_deadline(), time::kNever);
}

TEST_F(Pit8254Test, ControlPortReadsAllOnes) {
  EXPECT_EQ(in(3), 0xFF);
}

TEST_F(Pit8254Test, ReadBackLatchesAllThatItNames) {
  program(0x34, 1000);
  program(0x74, 2000);
  time.jump_to(tick(101));
  out(3, 0xC6);  // count and status of counters 0 and 1
  time.jump_to(tick(900));
  EXPECT_EQ(in(0), 0xB4);
  EXPECT_EQ(in(0) | in(0) << 8, 900);
  EXPECT_EQ(in(1), 0xB4);
  EXPECT_EQ(in(1) | in(1) << 8, 1900);
  out(3, 0xE2);  // status only
  EXPECT_EQ(in(0), 0xB4);
  EXPECT_EQ(in(0) | in(0) << 8, 101);
}

/// How Linux measures the TSC: counter 2 in mode 0 by its gate, until OUT shows in port 61h.
TEST_F(Pit8254Test, Port61GatesCounterTwoAndShowsItsOutput) {
  port61(0x00);
  program(0xB0, 1000);
  EXPECT_EQ(port61() & 0x21, 0x00);
  time.advance(tick(5000));
  EXPECT_EQ(port61() & 0x20, 0x00) << "it does not count while the gate is low";
  port61(0x01);
  const time::Nanoseconds start = time.clock.now();
  time.jump_to(start + tick(999));
  EXPECT_EQ(port61() & 0x21, 0x01);
  time.jump_to(start + tick(1002));
  EXPECT_EQ(port61() & 0x21, 0x21);
}

TEST_F(Pit8254Test, Port61KeepsFourBitsAndTogglesTheRefreshBit) {
  port61(0xFF);
  EXPECT_EQ(port61() & 0xCF, 0x0F);
  int toggles = 0;
  std::uint8_t last = port61() & 0x10;
  for (int i = 0; i < 100; ++i) {
    time.jump_to(time.clock.now() + 5000);
    const std::uint8_t now = port61() & 0x10;
    toggles += now != last ? 1 : 0;
    last = now;
  }
  EXPECT_EQ(toggles, 500'000 / 15'085);
}

TEST_F(Pit8254Test, TickPendingAtSaveComesAfterRestore) {
  program(0x34, 1000);
  edges();
  time.jump_to(tick(1500));  // the period has passed, the timer has not run yet
  const auto saved = state::save(test::describe_of(pit));
  pit.reset(bus::ResetKind::Cold);
  ASSERT_TRUE(state::load(saved, test::describe_of(pit)).ok());
  edges();
  time.advance(0);
  EXPECT_EQ(edges(), 1u);
  time.advance_to(tick(2001));
  EXPECT_EQ(edges(), 1u);
}

TEST_F(Pit8254Test, Contract) {
  test::expect_contract(pit, [this] {
    time.jump_to(tick(77));
    program(0x34, 1000);
    program(0x71, 0x2000);
    program(0xB6, 3000);
    port61(0x03);
    out(1, 0x11);
    time.jump_to(tick(200));
    out(3, 0xCC);
    out(0, 0x22);
    out(0, 0x01);
    (void)in(0);
  });
  test::expect_schema("pit", pit);
}

}  // namespace
}  // namespace doppel::devices
