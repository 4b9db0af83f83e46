#include "devices/acpi_pm.h"

#include <gtest/gtest.h>

#include "devices/line_probe.h"
#include "devices/manual_time.h"
#include "state/contract.h"

namespace doppel::devices {
namespace {

class AcpiPmTest : public testing::Test {
 protected:
  AcpiPmTest() {
    pm.connect_sci(probe.line(9));
    pm.set_on_power_off([this] { ++power_offs; });
  }

  std::uint16_t status() { return static_cast<std::uint16_t>(pm.pm1_registers().read(0, 2)); }
  void write_status(std::uint16_t value) { pm.pm1_registers().write(0, 2, value); }
  void write_enable(std::uint16_t value) { pm.pm1_registers().write(2, 2, value); }
  void write_control(std::uint16_t value) { pm.pm1_registers().write(4, 2, value); }
  std::uint16_t control() { return static_cast<std::uint16_t>(pm.pm1_registers().read(4, 2)); }
  std::uint32_t timer() { return static_cast<std::uint32_t>(pm.timer_register().read(0, 4)); }
  bool sci() const { return probe.level(9); }

  static constexpr std::uint16_t kPowerButton = 0x100, kTimer = 0x001;

  test::ManualTime time;
  test::LineProbe probe;
  int power_offs = 0;
  AcpiPm pm{{.sleep_type_s5 = 5}, time.clock, time.timers};
};

TEST_F(AcpiPmTest, SciIsAlwaysEnabled) {
  EXPECT_EQ(control(), 0x0001);
  write_control(0);
  EXPECT_EQ(control(), 0x0001);
}

TEST_F(AcpiPmTest, TimerCountsThirtyTwoBits) {
  EXPECT_EQ(timer(), 0u);
  time.jump_to(time::kSecond);
  EXPECT_EQ(timer(), 3'579'545u);
  EXPECT_EQ(pm.timer_register().read(2, 2), 3'579'545u >> 16);
  EXPECT_EQ(pm.timer_register().read(1, 1), (3'579'545u >> 8) & 0xFF);
  time.jump_to(time::time_of_tick((std::uint64_t{1} << 32) + 5, AcpiPm::kPmTimerHz));
  EXPECT_EQ(timer(), 5u);
}

TEST_F(AcpiPmTest, PowerButtonRaisesTheSci) {
  pm.press_power_button();
  EXPECT_EQ(status(), kPowerButton);
  EXPECT_FALSE(sci());
  write_enable(kPowerButton);
  EXPECT_TRUE(sci());
  write_status(0xFEFF);
  EXPECT_TRUE(sci()) << "other bits do not clear it";
  write_status(kPowerButton);
  EXPECT_FALSE(sci());
  EXPECT_EQ(status(), 0);
}

TEST_F(AcpiPmTest, ByteAccessesTouchOneByte) {
  pm.press_power_button();
  pm.pm1_registers().write(3, 1, 0x01);
  EXPECT_TRUE(sci());
  EXPECT_EQ(pm.pm1_registers().read(2, 2), kPowerButton);
  pm.pm1_registers().write(0, 1, 0xFF);
  EXPECT_TRUE(sci());
  pm.pm1_registers().write(1, 1, 0x01);
  EXPECT_FALSE(sci());
}

TEST_F(AcpiPmTest, TimerStatusWhenTheTopBitChanges) {
  const time::Nanoseconds half = time::time_of_tick(std::uint64_t{1} << 31, AcpiPm::kPmTimerHz);
  write_enable(kTimer);
  EXPECT_EQ(time.timers.next_deadline(), half);
  time.advance_to(half - 1);
  EXPECT_FALSE(sci());
  time.advance_to(half);
  EXPECT_TRUE(sci());
  EXPECT_EQ(status(), kTimer);
  EXPECT_EQ(time.timers.next_deadline(), time::kNever);
  write_status(kTimer);
  EXPECT_FALSE(sci());
  EXPECT_EQ(time.timers.next_deadline(), time::time_of_tick(std::uint64_t{1} << 32, AcpiPm::kPmTimerHz));
}

TEST_F(AcpiPmTest, OnlySleepStateFivePowersOff) {
  write_control(5 << 10);
  EXPECT_EQ(power_offs, 0) << "without SLP_EN";
  EXPECT_EQ(control(), 0x1401);
  write_control(1 << 13 | 1 << 10);
  EXPECT_EQ(power_offs, 0) << "another state";
  write_control(1 << 13 | 5 << 10);
  EXPECT_EQ(power_offs, 1);
  EXPECT_EQ(control() & 1 << 13, 0) << "SLP_EN reads as 0";
}

TEST_F(AcpiPmTest, GeneralPurposeEvents) {
  pm.raise_gpe(9);
  EXPECT_EQ(pm.gpe0_registers().read(0, 4), 0x0000'0200u);
  EXPECT_FALSE(sci());
  pm.gpe0_registers().write(3, 1, 0x02);
  EXPECT_TRUE(sci());
  pm.gpe0_registers().write(1, 1, 0x02);
  EXPECT_FALSE(sci());
  EXPECT_EQ(pm.gpe0_registers().read(0, 4), 0x0200'0000u);
}

TEST_F(AcpiPmTest, EventPendingAtSaveIsRaisedAgain) {
  write_enable(kPowerButton);
  pm.press_power_button();
  const auto saved = state::save(test::describe_of(pm));
  pm.reset(bus::ResetKind::Cold);
  ASSERT_FALSE(sci());
  ASSERT_TRUE(state::load(saved, test::describe_of(pm)).ok());
  EXPECT_TRUE(sci());
}

TEST_F(AcpiPmTest, Contract) {
  test::expect_contract(pm, [this] {
    write_enable(0x0101);
    write_control(5 << 10);
    pm.press_power_button();
    pm.raise_gpe(0);
    pm.gpe0_registers().write(2, 1, 0x01);
    time.jump_to(700 * time::kSecond);
    (void)status();
  });
  test::expect_schema("acpi_pm", pm);
}

}  // namespace
}  // namespace doppel::devices
