#include "devices/virtio/console.h"

#include <gtest/gtest.h>

#include "devices/virtio/driver.h"
#include "state/contract.h"
#include "state/snapshot_io.h"

namespace doppel::devices::virtio {
namespace {

using test::VirtioDriver;

constexpr unsigned kReceive = 0, kTransmit = 1;
constexpr std::uint64_t kSize = 1;  // VIRTIO_CONSOLE_F_SIZE

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span{text});
}

class VirtioConsole : public testing::Test {
 protected:
  VirtioConsole() {
    device.set_sink([this](std::span<const std::byte> bytes) {
      printed.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    });
    device.set_on_space([this] { ++spaces; });
    driver.enable_msix(3);
  }
  void start() {
    driver.start(kSize, 2);
    driver.write(0x10, 2, 0);  // the vector of configuration changes
    driver.messages.clear();
  }
  void start_and_print() {
    start();
    print("x");
    driver.messages.clear();
  }
  void print(std::string_view text) {
    const auto bytes = bytes_of(text);
    driver.submit(kTransmit, {{bytes.begin(), bytes.end()}}, {});
    driver.notify(kTransmit);
  }
  std::uint64_t columns() { return driver.read(Device::kDeviceConfig, 2); }
  std::uint64_t rows() { return driver.read(Device::kDeviceConfig + 2, 2); }

  std::unique_ptr<memory::GuestMemory> memory = VirtioDriver::make_memory();
  Console device{"console", *memory};
  VirtioDriver driver{device, *memory};
  std::string printed;
  int spaces = 0;
};

TEST_F(VirtioConsole, WhatTheGuestPrintsIsTaken) {
  start();
  const auto first = bytes_of("hello, "), second = bytes_of("world");
  driver.submit(kTransmit, {{first.begin(), first.end()}, {second.begin(), second.end()}}, {});
  driver.notify(kTransmit);
  EXPECT_EQ(printed, "hello, world");
  EXPECT_EQ(driver.take_used(kTransmit)->length, 0u);
}

TEST_F(VirtioConsole, InputGoesIntoWhatBuffersThereAre) {
  start_and_print();
  EXPECT_EQ(device.send(bytes_of("abcdef")), 6u);
  auto places = driver.submit(kReceive, {}, {4});
  driver.notify(kReceive);
  EXPECT_EQ(driver.take_used(kReceive)->length, 4u);
  EXPECT_EQ(driver.text(places[0], 4), "abcd");
  places = driver.submit(kReceive, {}, {4});
  driver.notify(kReceive);
  EXPECT_EQ(driver.take_used(kReceive)->length, 2u);
  EXPECT_EQ(driver.text(places[0], 2), "ef");

  places = driver.submit(kReceive, {}, {4});
  driver.notify(kReceive);
  EXPECT_FALSE(driver.take_used(kReceive)) << "nothing has been typed";
  device.send(bytes_of("g"));
  EXPECT_EQ(driver.take_used(kReceive)->length, 1u);
  EXPECT_EQ(driver.text(places[0], 1), "g");
}

TEST_F(VirtioConsole, InputBeyondTheLimitWaitsOutside) {
  start_and_print();
  const std::string much(Console::kInputLimit + 10, 'x');
  EXPECT_EQ(device.send(bytes_of(much)), Console::kInputLimit);
  driver.submit(kReceive, {}, {100});
  driver.notify(kReceive);
  EXPECT_EQ(spaces, 0) << "not worth a word yet";
  driver.submit(kReceive, {}, {Console::kInputLimit});
  driver.notify(kReceive);
  EXPECT_EQ(spaces, 1);
  driver.submit(kReceive, {}, {100});
  driver.notify(kReceive);
  EXPECT_EQ(spaces, 1) << "nobody was refused since";
}

TEST_F(VirtioConsole, InputWaitsForTheGuestToPrint) {
  device.send(bytes_of("early"));
  start();
  const auto places = driver.submit(kReceive, {}, {8});
  driver.notify(kReceive);
  EXPECT_FALSE(driver.take_used(kReceive));
  print("login: ");
  EXPECT_EQ(driver.take_used(kReceive)->length, 5u);
  EXPECT_EQ(driver.text(places[0], 5), "early");
}

TEST_F(VirtioConsole, AResetForgetsInputIfTheMachineSaysSo) {
  start_and_print();
  device.send(bytes_of("late"));
  device.drop_input();
  driver.submit(kReceive, {}, {8});
  driver.notify(kReceive);
  EXPECT_FALSE(driver.take_used(kReceive));
}

TEST_F(VirtioConsole, TellsTheTerminalsSize) {
  start();
  device.set_size(132, 43);
  EXPECT_EQ(columns(), 132u);
  EXPECT_EQ(rows(), 43u);
  EXPECT_EQ(driver.messages, std::vector<std::uint32_t>{0x40});
  EXPECT_EQ(driver.read(0x15, 1), 1u) << "the configuration's generation";
}

TEST_F(VirtioConsole, TellsASizeAgainThatTheDriverWasTooYoungFor) {
  device.set_size(132, 43);
  start();
  EXPECT_TRUE(driver.messages.empty());
  print("x");
  EXPECT_EQ(driver.messages.size(), 1u);
  print("x");
  EXPECT_EQ(driver.messages.size(), 1u);
  device.send(bytes_of("y"));
  EXPECT_EQ(driver.messages.size(), 2u);
  device.send(bytes_of("y"));
  EXPECT_EQ(driver.messages.size(), 2u);
}

TEST_F(VirtioConsole, SaysNothingOfASizeThatNobodyKnows) {
  start();
  print("x");
  device.send(bytes_of("y"));
  EXPECT_TRUE(driver.messages.empty());
}

TEST_F(VirtioConsole, APausedMachineIsToldWhenItGoesOn) {
  start_and_print();
  device.pause();
  device.set_size(132, 43);
  device.send(bytes_of("z"));
  const auto places = driver.submit(kReceive, {}, {8});
  EXPECT_TRUE(driver.messages.empty());
  EXPECT_FALSE(driver.take_used(kReceive));
  device.resume();
  EXPECT_EQ(driver.messages.size(), 1u);
  EXPECT_TRUE(driver.take_used(kReceive));
  EXPECT_EQ(driver.text(places[0], 1), "z");
}

TEST_F(VirtioConsole, AfterALoadItsTerminalMayBeAnother) {
  start();
  device.set_size(80, 24);
  print("x");
  const auto describe = [this](state::Visitor& v) { device.describe(v); };
  device.pause();
  const auto saved = state::save(describe);
  driver.messages.clear();
  ASSERT_TRUE(state::load(saved, describe));
  device.set_size(100, 30);
  device.resume();
  EXPECT_EQ(driver.messages, std::vector<std::uint32_t>{0x40});
  EXPECT_EQ(columns(), 100u);
}

TEST_F(VirtioConsole, AReceiveBufferWithoutRoomFailsTheDevice) {
  start_and_print();
  device.send(bytes_of("x"));
  driver.submit(kReceive, {{std::byte{1}}}, {});
  driver.notify(kReceive);
  EXPECT_TRUE(driver.failed());
}

TEST_F(VirtioConsole, TooMuchAtOnceFailsTheDevice) {
  start();
  driver.set_descriptor(kTransmit, 0, {0, (1U << 20) + 1, 0, 0});
  driver.make_available(kTransmit, 0);
  driver.notify(kTransmit);
  EXPECT_TRUE(driver.failed());
  EXPECT_EQ(printed, "");
  start();
  print("again");
  EXPECT_EQ(printed, "again");
}

TEST_F(VirtioConsole, Contract) {
  Console fresh("console", *memory);
  std::optional<VirtioDriver> user;
  test::expect_contract(fresh, [&] {
    user.emplace(fresh, *memory);
    user->start(kSize, 2);
    user->submit(kTransmit, {{std::byte{'x'}}}, {});
    user->notify(kTransmit);
  });
  test::expect_schema("virtio_console", fresh);
}

}  // namespace
}  // namespace doppel::devices::virtio
