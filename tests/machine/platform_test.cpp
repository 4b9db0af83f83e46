#include "machine/platform.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include "bus/pci_function.h"

namespace doppel::machine {
namespace {

/// A board with every device that needs no file, and nobody to execute anything.
class PlatformTest : public testing::Test {
 protected:
  PlatformTest() {
    MachineConfig config;
    config.name = "test";
    config.memory_bytes = kMinMemory;
    config.virtio_console = true;
    config.balloon = true;
    config.networks.emplace_back();
    config.networks.back().mac = std::array<std::uint8_t, 6>{2, 0, 0, 0, 0, 1};
    config.vsock_listener = std::make_shared<UniqueFd>(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto nothing = [] {};
    Platform::Events events{.power_off = nothing,
                            .reset = nothing,
                            .debug_exit = [](int) {},
                            .panic = nothing,
                            .debug_output = [](std::uint8_t) {}};
    Result<std::unique_ptr<Platform>> made =
        Platform::create(config, Identity::random(), {&cpu_timers_}, clock_, timers_, std::move(events));
    EXPECT_TRUE(made) << made.error().message;
    platform_ = *std::move(made);
    platform_->assign_pci_resources();
  }

  time::VmClock clock_;
  time::TimerQueue timers_, cpu_timers_;
  std::unique_ptr<Platform> platform_;
};

/// Whatever a guest does to a register, of whatever size and alignment, is its own affair.
TEST_F(PlatformTest, AccessesOfEverySizeAtEveryOffsetHarmNobody) {
  constexpr std::uint64_t kMost = 0x1100;
  for (bus::IoBus* const bus : {&platform_->ports(), &platform_->mmio()}) {
    for (const bus::IoBus::Range& range : bus->ranges()) {
      const std::uint64_t end = range.base + std::min(range.length, kMost);
      for (std::uint64_t address = range.base - 8; address != end; ++address) {
        for (const unsigned size : {1U, 2U, 4U, 8U}) {
          bus->read(address, size);
          for (const std::uint64_t value :
               {~std::uint64_t{0}, std::uint64_t{0}, std::uint64_t{0x5A5A'A5A5'1234'8001}}) {
            bus->write(address, size, value);
          }
        }
      }
    }
  }
  // And through the BARs, which the above has moved.
  platform_->reset(bus::ResetKind::Warm);
  platform_->assign_pci_resources();
  for (const auto& device : platform_->pci_devices().all()) {
    const std::uint64_t base = device->bar_base(0);
    ASSERT_NE(base, bus::PciFunction::kUnmapped);
    for (std::uint64_t offset = 0; offset < kMost; ++offset) {
      for (const unsigned size : {8U, 4U, 2U, 1U}) {
        platform_->mmio().read(base + offset, size);
        platform_->mmio().write(base + offset, size, 0xA5A5'5A5A'FFFF'0001 * offset);
      }
    }
  }
}

TEST_F(PlatformTest, WhatNobodyClaimsReadsAllOnes) {
  for (const unsigned size : {1U, 2U, 4U}) {
    const std::uint64_t ones = size == 4 ? 0xFFFF'FFFF : (1U << 8 * size) - 1;
    EXPECT_EQ(platform_->ports().read(0x300, size), ones);
    EXPECT_EQ(platform_->mmio().read(0xD000'0001, size), ones);
  }
}

/// As Windows wants them, and the specification.
TEST_F(PlatformTest, EveryBarLiesAtAMultipleOfItsSize) {
  for (const auto& device : platform_->pci_devices().all()) {
    const std::uint64_t base = device->bar_base(0);
    const std::uint32_t low = device->config_read(0x10, 4);
    device->config_write(0x10, 4, 0xFFFF'FFFF);
    const std::uint32_t size = ~(device->config_read(0x10, 4) & ~std::uint32_t{15}) + 1;
    device->config_write(0x10, 4, low);
    EXPECT_EQ(base % size, 0U) << device->name();
    EXPECT_EQ(device->bar_base(0), base);
  }
}

}  // namespace
}  // namespace doppel::machine
