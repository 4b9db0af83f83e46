#include "devices/virtio/device.h"

#include <gtest/gtest.h>

#include "devices/virtio/driver.h"
#include "devices/virtio/entropy.h"
#include "state/contract.h"
#include "state/snapshot_io.h"

namespace doppel::devices::virtio {
namespace {

using test::VirtioDriver;
using Descriptor = VirtioDriver::Descriptor;

/// The simplest device stands for all: it fills what it is given.
class VirtioDevice : public testing::Test {
 protected:
  std::unique_ptr<memory::GuestMemory> memory = VirtioDriver::make_memory();
  Entropy device{"entropy", *memory};
  VirtioDriver driver{device, *memory};
};

TEST_F(VirtioDevice, IsAModernPciFunctionWithItsStructuresInTheCapabilities) {
  EXPECT_EQ(device.config_read(0x00, 4), 0x1044'1AF4u);
  EXPECT_EQ(device.config_read(0x08, 1), 1u);
  std::vector<unsigned> types;
  for (unsigned at = device.config_read(0x34, 1); at != 0; at = device.config_read(at + 1, 1)) {
    types.push_back(device.config_read(at, 1) == 9 ? device.config_read(at + 3, 1) : 100);
  }
  EXPECT_EQ(types, (std::vector<unsigned>{1, 3, 4, 2, 5, 100}));
}

TEST_F(VirtioDevice, TellsTheSizeOfItsBarAndMovesWithIt) {
  device.config_write(0x10, 4, 0xFFFF'FFFF);
  device.config_write(0x14, 4, 0xFFFF'FFFF);
  EXPECT_EQ(device.config_read(0x10, 4), 0xFFFF'800Cu) << "32 KiB, 64-bit, prefetchable";
  EXPECT_EQ(device.config_read(0x14, 4), 0xFFFF'FFFFu);
  device.config_write(0x10, 4, 0xD000'0000);
  device.config_write(0x14, 4, 0);
  EXPECT_EQ(device.bar_base(0), 0xD000'0000u);
  device.config_write(0x04, 2, 0);
  EXPECT_EQ(device.bar_base(0), bus::PciFunction::kUnmapped);
}

TEST_F(VirtioDevice, ABarThatIsBeingMovedAtASaveCanBeMovedOn) {
  const std::uint64_t base = device.bar_base(0);
  device.config_write(0x10, 4, 0xFFFF'FFFF);  // its lower half has been asked for its size …
  Entropy later{"entropy", *memory};
  VirtioDriver elsewhere{later, *memory};
  const auto saved = state::save([this](state::Visitor& v) { device.describe(v); });
  ASSERT_TRUE(state::load(saved, [&later](state::Visitor& v) { later.describe(v); }));
  EXPECT_EQ(later.config_read(0x10, 4), 0xFFFF'800Cu);
  EXPECT_EQ(later.bar_base(0), device.bar_base(0));
  EXPECT_NE(later.bar_base(0), base);
  later.config_write(0x10, 4, 0xD000'0000);  // … and gets its new address afterwards
  later.config_write(0x14, 4, 0);
  EXPECT_EQ(later.bar_base(0), 0xD000'0000u);
}

TEST_F(VirtioDevice, RefusesFeaturesThatItHasNotOffered) {
  driver.write(0x14, 1, 3);
  driver.write(0x08, 4, 0);
  driver.write(0x0C, 4, 1);
  driver.write(0x08, 4, 1);
  driver.write(0x0C, 4, 1);
  driver.write(0x14, 1, 11);
  EXPECT_EQ(driver.status(), 3) << "FEATURES_OK does not stay";
}

TEST_F(VirtioDevice, ServesARequestAndInterruptsByItsPin) {
  driver.start(0, 1);
  const auto places = driver.submit(0, {}, {32});
  driver.notify(0);
  const auto used = driver.take_used(0);
  ASSERT_TRUE(used);
  EXPECT_EQ(used->length, 32u);
  EXPECT_NE(driver.bytes(places[0], 32), std::vector<std::byte>(32));
  EXPECT_TRUE(driver.intx);
  EXPECT_EQ(driver.read(Device::kIsr, 1), 1u);
  EXPECT_FALSE(driver.intx) << "reading the ISR status acknowledges";
}

TEST_F(VirtioDevice, MarksWhatItWritesDirty) {
  driver.start(0, 1);
  const auto places = driver.submit(0, {}, {32});
  memory->dirty().collect();
  driver.notify(0);
  EXPECT_TRUE(memory->dirty().is_dirty(memory->page_index(places[0])));
  EXPECT_TRUE(memory->dirty().is_dirty(memory->page_index(VirtioDriver::used(0))));
}

TEST_F(VirtioDevice, InterruptsByMessageOncePerVector) {
  driver.enable_msix(2);
  driver.start(0, 1);
  driver.write(0x16, 2, 0);
  driver.write(0x1A, 2, 1);
  driver.submit(0, {}, {8});
  driver.notify(0);
  EXPECT_EQ(driver.messages, std::vector<std::uint32_t>{0x41});
  EXPECT_FALSE(driver.intx);
  // Masked: remembered, and sent when the mask goes.
  driver.write(Device::kMsixTable + 16 + 12, 4, 1);
  driver.submit(0, {}, {8});
  driver.notify(0);
  EXPECT_EQ(driver.messages.size(), 1u);
  EXPECT_EQ(driver.read(Device::kMsixPending, 4), 2u);
  driver.write(Device::kMsixTable + 16 + 12, 4, 0);
  EXPECT_EQ(driver.messages.size(), 2u);
  EXPECT_EQ(driver.read(Device::kMsixPending, 4), 0u);
}

TEST_F(VirtioDevice, EventIndexSaysWhenToInterrupt) {
  driver.start(bit(feature::kEventIndex), 1);
  // used_event = 1: only the second completion is of interest.
  memory->write_value(VirtioDriver::available(0) + 4 + 2 * VirtioDriver::kQueueSize, std::uint16_t{1});
  driver.submit(0, {}, {8});
  driver.notify(0);
  EXPECT_FALSE(driver.intx);
  driver.submit(0, {}, {8});
  driver.notify(0);
  EXPECT_TRUE(driver.intx);
}

TEST_F(VirtioDevice, ReachesItsRegistersThroughTheConfigurationCapability) {
  unsigned at = device.config_read(0x34, 1);
  while (device.config_read(at + 3, 1) != 5) at = device.config_read(at + 1, 1);
  device.config_write(at + 8, 4, 0x12);  // num_queues
  device.config_write(at + 12, 4, 2);
  EXPECT_EQ(device.config_read(at + 16, 2), 1u);
  device.config_write(at + 8, 4, 0x14);
  device.config_write(at + 12, 4, 1);
  device.config_write(at + 16, 1, 1);
  EXPECT_EQ(driver.status(), 1);
}

TEST_F(VirtioDevice, IndirectDescriptorsAreFollowed) {
  driver.start(bit(feature::kIndirectDescriptors), 1);
  memory->write_value(0x8000, Descriptor{0x9000, 16, VirtioDriver::kWrite | VirtioDriver::kNext, 1});
  memory->write_value(0x8010, Descriptor{0xA000, 16, VirtioDriver::kWrite, 0});
  driver.set_descriptor(0, 0, {0x8000, 32, VirtioDriver::kIndirect, 0});
  driver.make_available(0, 0);
  driver.notify(0);
  EXPECT_EQ(driver.take_used(0)->length, 32u);
}

TEST_F(VirtioDevice, APausedDeviceTouchesNothingAndGoesOnAfterwards) {
  driver.start(0, 1);
  device.pause();
  driver.submit(0, {}, {8});
  driver.notify(0);
  EXPECT_FALSE(driver.take_used(0));
  device.resume();
  EXPECT_TRUE(driver.take_used(0));
}

struct Broken {
  const char* name;
  void (*set_up)(VirtioDriver& driver, memory::GuestMemory& memory);
};

class VirtioDeviceFails : public testing::TestWithParam<Broken> {
 protected:
  std::unique_ptr<memory::GuestMemory> memory = VirtioDriver::make_memory();
  Entropy device{"entropy", *memory};
  VirtioDriver driver{device, *memory};
};

TEST_P(VirtioDeviceFails, AndNeedsAReset) {
  driver.start(0, 1);
  GetParam().set_up(driver, *memory);
  driver.notify(0);
  EXPECT_TRUE(driver.failed());
  EXPECT_FALSE(driver.take_used(0));
  EXPECT_EQ(driver.read(Device::kIsr, 1), 2u) << "a configuration change is announced";
  driver.start(0, 1);
  EXPECT_FALSE(driver.failed());
  driver.submit(0, {}, {8});
  driver.notify(0);
  EXPECT_TRUE(driver.take_used(0)) << "after a reset it works again";
}

constexpr std::uint16_t kWrite = VirtioDriver::kWrite, kNext = VirtioDriver::kNext, kIndirect = VirtioDriver::kIndirect;

INSTANTIATE_TEST_SUITE_P(
    Drivers, VirtioDeviceFails,
    testing::Values(Broken{"Loop",
                           [](VirtioDriver& driver, memory::GuestMemory&) {
                             driver.set_descriptor(0, 0, {0x9000, 16, kWrite | kNext, 1});
                             driver.set_descriptor(0, 1, {0x9000, 16, kWrite | kNext, 0});
                             driver.make_available(0, 0);
                           }},
                    Broken{"OutOfMemory",
                           [](VirtioDriver& driver, memory::GuestMemory&) {
                             driver.set_descriptor(0, 0, {0xFFFF'FFFF'FFFF'F000, 0x2000, kWrite, 0});
                             driver.make_available(0, 0);
                           }},
                    Broken{"BeyondTheEnd",
                           [](VirtioDriver& driver, memory::GuestMemory&) {
                             driver.set_descriptor(0, 0, {VirtioDriver::kMemory - 8, 16, kWrite, 0});
                             driver.make_available(0, 0);
                           }},
                    Broken{"HeadOutsideTheTable",
                           [](VirtioDriver& driver, memory::GuestMemory&) { driver.make_available(0, 999); }},
                    Broken{"NextOutsideTheTable",
                           [](VirtioDriver& driver, memory::GuestMemory&) {
                             driver.set_descriptor(0, 0, {0x9000, 16, kWrite | kNext, 16});
                             driver.make_available(0, 0);
                           }},
                    Broken{"ReadableAfterWritable",
                           [](VirtioDriver& driver, memory::GuestMemory&) {
                             driver.set_descriptor(0, 0, {0x9000, 16, kWrite | kNext, 1});
                             driver.set_descriptor(0, 1, {0x9000, 16, 0, 0});
                             driver.make_available(0, 0);
                           }},
                    Broken{"IndirectInIndirect",
                           [](VirtioDriver& driver, memory::GuestMemory& memory) {
                             memory.write_value(0x8000, Descriptor{0x9000, 16, kIndirect, 0});
                             driver.set_descriptor(0, 0, {0x8000, 16, kIndirect, 0});
                             driver.make_available(0, 0);
                           }},
                    Broken{"IndirectOfOddSize",
                           [](VirtioDriver& driver, memory::GuestMemory&) {
                             driver.set_descriptor(0, 0, {0x8000, 24, kIndirect, 0});
                             driver.make_available(0, 0);
                           }},
                    Broken{"MoreRequestsThanTheQueueHolds",
                           [](VirtioDriver&, memory::GuestMemory& memory) {
                             memory.write_value(VirtioDriver::available(0) + 2, std::uint16_t{17});
                           }}),
    [](const testing::TestParamInfo<Broken>& info) { return std::string(info.param.name); });

TEST_F(VirtioDevice, AQueueOutsideMemoryFailsTheDevice) {
  driver.write(0x14, 1, 3);
  driver.write(0x16, 2, 0);
  driver.write(0x20, 8, 0xFFFF'FFFF'FFFF'FFF0);
  driver.write(0x1C, 2, 1);
  EXPECT_EQ(driver.read(0x1C, 2), 0u);
  EXPECT_TRUE(driver.failed());
}

TEST_F(VirtioDevice, Contract) {
  Entropy fresh{"entropy", *memory};
  std::optional<VirtioDriver> user;
  test::expect_contract(fresh, [&] {
    user.emplace(fresh, *memory);
    user->enable_msix(2);
    user->start(bit(feature::kEventIndex), 1);
    user->submit(0, {}, {8});
    user->notify(0);
  });
  test::expect_schema("virtio_entropy", fresh);
}

}  // namespace
}  // namespace doppel::devices::virtio
