#include "devices/virtio/balloon.h"

#include <gtest/gtest.h>

#include "devices/virtio/driver.h"
#include "state/contract.h"

namespace doppel::devices::virtio {
namespace {

using test::as_vector;
using test::VirtioDriver;

constexpr unsigned kInflate = 0, kDeflate = 1, kStatistics = 2, kReporting = 3;

class VirtioBalloon : public testing::Test {
 protected:
  void start() { driver.start(driver.offered_features() & ~bit(feature::kEventIndex), 5); }
  void fill(std::uint64_t page) { memory->write_value(page << 12, std::uint64_t{0x1234}); }
  bool is_zero(std::uint64_t page) {
    std::uint64_t value = 1;
    memory->read_value(page << 12, value);
    return value == 0;
  }

  std::unique_ptr<memory::GuestMemory> memory = VirtioDriver::make_memory();
  Balloon device{"balloon", *memory};
  VirtioDriver driver{device, *memory};
};

TEST_F(VirtioBalloon, TakesThePagesThatTheGuestGives) {
  start();
  for (std::uint64_t page = 0x200; page < 0x205; ++page) fill(page);
  memory->dirty().collect();
  driver.submit(kInflate, {as_vector(std::array<std::uint32_t, 3>{0x203, 0x202, 0x200})}, {});
  driver.notify(kInflate);
  EXPECT_TRUE(is_zero(0x200));
  EXPECT_FALSE(is_zero(0x201));
  EXPECT_TRUE(is_zero(0x202));
  EXPECT_TRUE(is_zero(0x203));
  EXPECT_TRUE(memory->dirty().is_dirty(0x202)) << "its contents have changed";
  EXPECT_FALSE(memory->dirty().is_dirty(0x201));
  EXPECT_TRUE(driver.take_used(kInflate));
  driver.submit(kDeflate, {as_vector(std::uint32_t{0x203})}, {});
  driver.notify(kDeflate);
  EXPECT_TRUE(driver.take_used(kDeflate));
}

TEST_F(VirtioBalloon, PagesOutsideMemoryAreIgnored) {
  start();
  driver.submit(kInflate, {as_vector(std::array<std::uint32_t, 2>{0xFFFF'FFFF, 0x400})}, {});
  driver.notify(kInflate);
  EXPECT_TRUE(driver.take_used(kInflate));
  EXPECT_FALSE(driver.failed());
}

TEST_F(VirtioBalloon, FreePagesThatAreReportedGoBackToTheHost) {
  start();
  fill(0x200);
  driver.set_descriptor(kReporting, 0, {0x20'0000, 0x1000, VirtioDriver::kWrite, 0});
  driver.make_available(kReporting, 0);
  driver.notify(kReporting);
  EXPECT_TRUE(is_zero(0x200));
  EXPECT_EQ(device.reported_bytes(), 0x1000u);
}

TEST_F(VirtioBalloon, AsksForATargetAndForStatistics) {
  start();
  device.set_target(77);
  EXPECT_EQ(driver.read(Device::kDeviceConfig, 4), 77u);
  EXPECT_EQ(driver.read(Device::kIsr, 1), 2u);
  driver.write(Device::kDeviceConfig + 4, 4, 70);
  EXPECT_EQ(device.actual(), 70u);

  std::vector<std::byte> told(20);
  store_le(told.data(), std::uint16_t{4});
  store_le(told.data() + 2, std::uint64_t{5000});
  store_le(told.data() + 10, std::uint16_t{999});
  driver.submit(kStatistics, {told}, {});
  driver.notify(kStatistics);
  EXPECT_FALSE(driver.take_used(kStatistics)) << "kept until somebody asks";
  EXPECT_EQ(device.statistics().values[4], 5000u);
  EXPECT_TRUE(driver.take_used(kStatistics));
}

TEST_F(VirtioBalloon, Contract) {
  Balloon fresh{"balloon", *memory};
  std::optional<VirtioDriver> user;
  test::expect_contract(fresh, [&] {
    user.emplace(fresh, *memory);
    user->start(user->offered_features(), 5);
    user->write(Device::kDeviceConfig + 4, 4, 70);
  });
  test::expect_schema("virtio_balloon", fresh);
}

}  // namespace
}  // namespace doppel::devices::virtio
