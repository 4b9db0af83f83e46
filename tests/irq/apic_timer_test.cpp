#include "irq/apic_timer.h"

#include <gtest/gtest.h>

#include "devices/manual_time.h"
#include "state/contract.h"

namespace doppel::irq {
namespace {

TEST(ApicTimerCount, DivisorsOfTheConfigurationRegister) {
  const std::pair<std::uint32_t, unsigned> table[] = {{0x0, 2},  {0x1, 4},  {0x2, 8},   {0x3, 16},
                                                      {0x8, 32}, {0x9, 64}, {0xA, 128}, {0xB, 1}};
  for (const auto& [configuration, divisor] : table) {
    EXPECT_EQ(apic_timer_divisor(configuration), divisor);
    EXPECT_EQ(apic_timer_divisor(configuration | 0xFFFF'FFF4), divisor) << "other bits mean nothing";
  }
}

TEST(ApicTimerCount, OneShotStopsAtZero) {
  EXPECT_EQ(apic_timer_current_count(ApicTimerMode::OneShot, 100, 2, 0), 100u);
  EXPECT_EQ(apic_timer_current_count(ApicTimerMode::OneShot, 100, 2, 1), 100u);
  EXPECT_EQ(apic_timer_current_count(ApicTimerMode::OneShot, 100, 2, 2), 99u);
  EXPECT_EQ(apic_timer_current_count(ApicTimerMode::OneShot, 100, 2, 199), 1u);
  EXPECT_EQ(apic_timer_current_count(ApicTimerMode::OneShot, 100, 2, 200), 0u);
  EXPECT_EQ(apic_timer_current_count(ApicTimerMode::OneShot, 100, 2, 1'000'000), 0u);
}

TEST(ApicTimerCount, PeriodicReloads) {
  EXPECT_EQ(apic_timer_current_count(ApicTimerMode::Periodic, 100, 1, 99), 1u);
  EXPECT_EQ(apic_timer_current_count(ApicTimerMode::Periodic, 100, 1, 100), 100u);
  EXPECT_EQ(apic_timer_current_count(ApicTimerMode::Periodic, 100, 1, 150), 50u);
  EXPECT_EQ(apic_timer_current_count(ApicTimerMode::Periodic, 0xFFFF'FFFF, 1, 1), 0xFFFF'FFFEu);
}

TEST(ApicTimerCount, ZeroWithoutACountOrInDeadlineMode) {
  EXPECT_EQ(apic_timer_current_count(ApicTimerMode::Periodic, 0, 1, 5), 0u);
  EXPECT_EQ(apic_timer_current_count(ApicTimerMode::TscDeadline, 100, 1, 5), 0u);
}

class ApicTimerTest : public testing::Test {
 protected:
  int take() { return std::exchange(expired, 0); }

  static constexpr std::uint32_t kDivideBy1 = 0xB, kDivideBy4 = 0x1;

  int expired = 0;
  test::ManualTime time;
  ApicTimer timer{time.clock, time.timers, [this] { ++expired; }};
};

TEST_F(ApicTimerTest, OneShotFiresOnce) {
  timer.configure(ApicTimerMode::OneShot, false);
  timer.set_divide_configuration(kDivideBy1);
  timer.set_initial_count(1000);
  time.advance(999);
  EXPECT_EQ(take(), 0);
  EXPECT_EQ(timer.current_count(), 1u);
  time.advance(1);
  EXPECT_EQ(take(), 1);
  time.advance(10'000);
  EXPECT_EQ(take(), 0);
  EXPECT_EQ(timer.current_count(), 0u);
  EXPECT_EQ(timer.initial_count(), 1000u);
}

TEST_F(ApicTimerTest, PeriodicFiresEveryPeriod) {
  timer.configure(ApicTimerMode::Periodic, false);
  timer.set_divide_configuration(kDivideBy4);
  timer.set_initial_count(100);
  time.advance(1600);
  EXPECT_EQ(take(), 4);
}

TEST_F(ApicTimerTest, MissedPeriodsAreOneInterrupt) {
  timer.configure(ApicTimerMode::Periodic, false);
  timer.set_divide_configuration(kDivideBy1);
  timer.set_initial_count(100);
  time.stall_to(1050);
  EXPECT_EQ(take(), 1);
  EXPECT_EQ(time.timers.next_deadline(), 1100) << "the phase is kept";
}

TEST_F(ApicTimerTest, InitialCountOfZeroStops) {
  timer.configure(ApicTimerMode::Periodic, false);
  timer.set_initial_count(100);
  timer.set_initial_count(0);
  EXPECT_EQ(time.timers.next_deadline(), time::kNever);
  EXPECT_EQ(timer.current_count(), 0u);
}

TEST_F(ApicTimerTest, MaskedCountsSilentlyAndWakesNobody) {
  timer.set_divide_configuration(kDivideBy1);
  timer.set_initial_count(1000);
  EXPECT_EQ(time.timers.next_deadline(), time::kNever);
  time.advance(400);
  EXPECT_EQ(timer.current_count(), 600u);
  timer.configure(ApicTimerMode::OneShot, false);
  EXPECT_EQ(time.timers.next_deadline(), 1000);
  timer.configure(ApicTimerMode::OneShot, true);
  time.advance(1000);
  timer.configure(ApicTimerMode::OneShot, false);
  EXPECT_EQ(time.timers.next_deadline(), time::kNever) << "what expired while masked is gone";
}

TEST_F(ApicTimerTest, NewDivisorKeepsTheCurrentCount) {
  timer.configure(ApicTimerMode::OneShot, false);
  timer.set_divide_configuration(kDivideBy1);
  timer.set_initial_count(1000);
  time.advance(400);
  timer.set_divide_configuration(kDivideBy4);
  EXPECT_EQ(timer.current_count(), 600u);
  time.advance(599 * 4);
  EXPECT_EQ(timer.current_count(), 1u);
  EXPECT_EQ(take(), 0);
  time.advance(4);
  EXPECT_EQ(take(), 1);
}

TEST_F(ApicTimerTest, TscDeadlineFiresAndReadsZero) {
  timer.configure(ApicTimerMode::TscDeadline, false);
  timer.set_tsc_deadline(5000);
  EXPECT_EQ(timer.tsc_deadline(), 5000u);
  time.advance(4999);
  EXPECT_EQ(take(), 0);
  time.advance(1);
  EXPECT_EQ(take(), 1);
  EXPECT_EQ(timer.tsc_deadline(), 0u);
}

TEST_F(ApicTimerTest, TscDeadlineInThePastFiresAtOnceAndZeroDisarms) {
  time.advance(10'000);
  timer.configure(ApicTimerMode::TscDeadline, false);
  timer.set_tsc_deadline(1);
  time.advance(0);
  EXPECT_EQ(take(), 1);
  timer.set_tsc_deadline(20'000);
  timer.set_tsc_deadline(0);
  EXPECT_EQ(time.timers.next_deadline(), time::kNever);
}

TEST_F(ApicTimerTest, TscDeadlineFollowsTheGuestsTsc) {
  timer.configure(ApicTimerMode::TscDeadline, false);
  timer.set_tsc_offset(1'000'000);
  timer.set_tsc_deadline(1'005'000);
  EXPECT_EQ(time.timers.next_deadline(), 5000);
  time.advance(2000);
  timer.set_tsc_offset(-1000);
  EXPECT_EQ(time.timers.next_deadline(), 1'006'000);
  timer.set_tsc_deadline(~std::uint64_t{0});
  EXPECT_EQ(time.timers.next_deadline(), time::kNever);
}

TEST_F(ApicTimerTest, ModesDoNotHearEachOthersRegisters) {
  timer.set_tsc_deadline(500);
  EXPECT_EQ(timer.tsc_deadline(), 0u);
  timer.set_initial_count(100);
  timer.configure(ApicTimerMode::TscDeadline, false);
  EXPECT_EQ(timer.initial_count(), 0u);
  timer.set_initial_count(100);
  EXPECT_EQ(timer.initial_count(), 0u);
  timer.set_tsc_deadline(500);
  timer.configure(ApicTimerMode::OneShot, false);
  EXPECT_EQ(timer.tsc_deadline(), 0u);
  EXPECT_EQ(time.timers.next_deadline(), time::kNever);
}

TEST_F(ApicTimerTest, ArmedAtSaveFiresOnceAfterRestore) {
  timer.configure(ApicTimerMode::OneShot, false);
  timer.set_divide_configuration(kDivideBy1);
  timer.set_initial_count(1000);
  time.advance(400);
  const auto saved = state::save(test::describe_of(timer));
  timer.reset();
  ASSERT_TRUE(state::load(saved, test::describe_of(timer)).ok());
  time.advance(5000);
  EXPECT_EQ(take(), 1);
  const auto spent = state::save(test::describe_of(timer));
  ASSERT_TRUE(state::load(spent, test::describe_of(timer)).ok());
  time.advance(5000);
  EXPECT_EQ(take(), 0) << "a one-shot that has fired fires again";
}

TEST_F(ApicTimerTest, ADeadlineOfZeroAtSaveNeverFires) {
  timer.configure(ApicTimerMode::TscDeadline, false);
  timer.set_tsc_deadline(1000);
  timer.set_tsc_deadline(0);
  const auto saved = state::save(test::describe_of(timer));
  timer.reset();
  ASSERT_TRUE(state::load(saved, test::describe_of(timer)).ok());
  time.advance(1'000'000);
  EXPECT_EQ(take(), 0);
  EXPECT_EQ(timer.tsc_deadline(), 0u);
}

}  // namespace
}  // namespace doppel::irq
