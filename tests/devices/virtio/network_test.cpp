#include "devices/virtio/network.h"

#include <gtest/gtest.h>

#include "devices/virtio/driver.h"
#include "state/contract.h"

namespace doppel::devices::virtio {
namespace {

using test::as_vector;
using test::VirtioDriver;

class FakeBackend : public net::Backend {
 public:
  void attach(net::Receiver& receiver, std::mutex&) override { receiver_ = &receiver; }
  std::uint16_t mtu() const override { return 9000; }
  bool receives_offloads() const override { return true; }
  void set_receive_offloads(const net::Offloads& wanted) override { offloads = wanted; }
  void send(const net::FrameHeader& header, std::span<std::byte> frame) override {
    headers.push_back(header);
    frames.emplace_back(frame.begin(), frame.end());
  }
  void sent_all() override { ++batches; }
  void resume_receiving() override { ++resumed; }
  /// A frame comes from the network.
  bool arrive(const std::vector<std::byte>& frame) {
    const bool taken = receiver_->receive({}, frame);
    receiver_->received_all();
    return taken;
  }

  std::vector<net::FrameHeader> headers;
  std::vector<std::vector<std::byte>> frames;
  net::Offloads offloads;
  int batches = 0, resumed = 0;

 private:
  net::Receiver* receiver_ = nullptr;
};

constexpr unsigned kReceive = 0, kTransmit = 1;

class VirtioNetwork : public testing::Test {
 protected:
  void start(std::uint64_t without = 0) {
    driver.start(driver.offered_features() & ~(without | bit(feature::kEventIndex)), 2);
  }
  static std::vector<std::byte> frame(std::size_t size) { return std::vector<std::byte>(size, std::byte{0xAB}); }

  std::unique_ptr<memory::GuestMemory> memory = VirtioDriver::make_memory();
  FakeBackend* backend = new FakeBackend;
  Network device{"net0", {2, 0, 0, 0, 0, 9}, std::unique_ptr<net::Backend>(backend), *memory};
  VirtioDriver driver{device, *memory};
};

TEST_F(VirtioNetwork, TellsItsAddressItsLinkAndItsMtu) {
  EXPECT_EQ(driver.read(Device::kDeviceConfig, 4), 0x0000'0002u);
  EXPECT_EQ(driver.read(Device::kDeviceConfig + 5, 1), 9u);
  EXPECT_EQ(driver.read(Device::kDeviceConfig + 6, 2), 1u);
  EXPECT_EQ(driver.read(Device::kDeviceConfig + 10, 2), 9000u);
}

TEST_F(VirtioNetwork, SendsFramesWithTheirHeaders) {
  start();
  EXPECT_TRUE(backend->offloads.tso4);
  net::FrameHeader header;
  header.flags = net::FrameHeader::kNeedsChecksum;
  header.checksum_start = 34;
  driver.submit(kTransmit, {as_vector(header), frame(60)}, {});
  driver.submit(kTransmit, {as_vector(net::FrameHeader{}), frame(100), frame(50)}, {});
  driver.notify(kTransmit);
  ASSERT_EQ(backend->frames.size(), 2u);
  EXPECT_EQ(backend->headers[0].checksum_start, 34);
  EXPECT_EQ(backend->frames[1], frame(150));
  EXPECT_EQ(backend->batches, 1);
  EXPECT_TRUE(driver.take_used(kTransmit));
  EXPECT_TRUE(driver.take_used(kTransmit));
}

TEST_F(VirtioNetwork, ReceivesOverSeveralBuffers) {
  start();
  const auto first = driver.submit(kReceive, {}, {100});
  const auto second = driver.submit(kReceive, {}, {100});
  driver.submit(kReceive, {}, {100});
  EXPECT_TRUE(backend->arrive(frame(150)));
  EXPECT_EQ(driver.take_used(kReceive)->length, 100u);
  EXPECT_EQ(driver.take_used(kReceive)->length, 62u);
  EXPECT_FALSE(driver.take_used(kReceive));
  EXPECT_EQ(driver.bytes(first[0] + 10, 2), as_vector(std::uint16_t{2})) << "num_buffers";
  EXPECT_EQ(driver.bytes(second[0], 62), frame(62));
  EXPECT_TRUE(driver.intx);
}

TEST_F(VirtioNetwork, AFrameForWhichThereIsNoRoomWaits) {
  start();
  driver.submit(kReceive, {}, {100});
  EXPECT_FALSE(backend->arrive(frame(150)));
  EXPECT_FALSE(driver.take_used(kReceive)) << "the one buffer is not used up";
  driver.submit(kReceive, {}, {100});
  driver.notify(kReceive);
  EXPECT_EQ(backend->resumed, 1);
  EXPECT_TRUE(backend->arrive(frame(150)));
}

TEST_F(VirtioNetwork, BadRequestsFailTheDevice) {
  start();
  driver.submit(kTransmit, {std::vector<std::byte>(11)}, {});
  driver.notify(kTransmit);
  EXPECT_TRUE(driver.failed());
  start();
  driver.submit(kReceive, {}, {4});
  EXPECT_FALSE(backend->arrive(frame(60)));
  EXPECT_TRUE(driver.failed());
}

TEST_F(VirtioNetwork, FramesThatAreTooLongAreDropped) {
  start();
  driver.submit(kTransmit, {as_vector(net::FrameHeader{}), std::vector<std::byte>(net::kMaxFrame + 1)}, {});
  driver.notify(kTransmit);
  EXPECT_TRUE(backend->frames.empty());
  EXPECT_TRUE(driver.take_used(kTransmit));
}

TEST_F(VirtioNetwork, Contract) {
  Network fresh{"net0", {2, 0, 0, 0, 0, 9}, std::make_unique<FakeBackend>(), *memory};
  std::optional<VirtioDriver> user;
  test::expect_contract(fresh, [&] {
    user.emplace(fresh, *memory);
    user->start(user->offered_features(), 2);
  });
  test::expect_schema("virtio_network", fresh);
}

}  // namespace
}  // namespace doppel::devices::virtio
