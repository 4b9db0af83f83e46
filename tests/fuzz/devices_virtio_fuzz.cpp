#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "base/log.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/block.h"
#include "devices/virtio/console.h"
#include "devices/virtio/driver.h"
#include "devices/virtio/entropy.h"
#include "devices/virtio/network.h"
#include "devices/virtio/vsock.h"

/// Whatever a driver writes into its rings, its buffers and the device's registers: the device does what it can or
/// fails, and never reads or writes outside the guest's memory, loops or crashes. The first byte chooses the device;
/// the next 16 KiB are what lies in memory around the queues; the rest are register accesses.
namespace doppel {

using namespace devices::virtio;
using test::VirtioDriver;

namespace {

/// What was printed, read once.
volatile std::byte touched;

class Disk : public storage::BlockDevice {
 public:
  Disk() {
    traits_.capacity = std::uint64_t{1} << 20;
    traits_.can_discard = traits_.can_write_zeroes = true;
  }
  const storage::BlockTraits& traits() const override { return traits_; }
  std::uint64_t capacity() const override { return traits_.capacity; }
  void submit(storage::BlockRequest& request) override {
    if (request.offset > capacity() || request.length > capacity() - request.offset) std::abort();
    for (const iovec& vector : request.buffers) {
      if (request.operation == storage::BlockOperation::Read) std::memset(vector.iov_base, 1, vector.iov_len);
    }
    request.done(request, 0);
  }
  void drain() override {}

 private:
  storage::BlockTraits traits_;
};

class Wire : public net::Backend {
 public:
  void attach(net::Receiver& receiver, std::mutex&) override { receiver_ = &receiver; }
  std::uint16_t mtu() const override { return 1500; }
  bool receives_offloads() const override { return true; }
  void set_receive_offloads(const net::Offloads&) override {}
  void send(const net::FrameHeader& header, std::span<std::byte> frame) override { receiver_->receive(header, frame); }
  void sent_all() override { receiver_->received_all(); }
  void resume_receiving() override {}

 private:
  net::Receiver* receiver_ = nullptr;
};

std::unique_ptr<Device> make_device(unsigned kind, net::Reactor& reactor, memory::GuestMemory& memory,
                                    unsigned& queues) {
  switch (kind % 6) {
    case 0:
      queues = 1;
      return std::make_unique<Entropy>("fuzz", memory);
    case 1:
      queues = 1;
      return std::make_unique<Block>(Block::Config{.name = "fuzz", .serial = "s"}, std::make_unique<Disk>(), memory);
    case 2:
      queues = 2;
      return std::make_unique<Network>("fuzz", MacAddress{2}, std::make_unique<Wire>(), memory);
    case 3:
      queues = 5;
      return std::make_unique<Balloon>("fuzz", memory);
    case 4:
      queues = 3;
      return std::make_unique<Vsock>(Vsock::Config{.name = "fuzz", .listener = {}, .connect = {}}, reactor, memory);
    default: {
      queues = 2;
      auto console = std::make_unique<Console>("fuzz", memory);
      console->set_sink([](std::span<const std::byte> bytes) {
        for (const std::byte byte : bytes) touched = touched ^ byte;
      });
      const std::array<std::byte, 100> input{};
      console->send(input);
      console->set_size(80, 24);
      return console;
    }
  }
}

}  // namespace
}  // namespace doppel

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace doppel;
  static const bool quiet = log::configure(log::Level::Off, "").ok();
  static const auto memory = VirtioDriver::make_memory();
  static const auto reactor = std::move(net::Reactor::create()).value();
  if (!quiet || size < 2) return 0;
  memory->clear();
  unsigned queues = 0;
  const auto device = make_device(data[0], *reactor, *memory, queues);
  VirtioDriver driver(*device, *memory);
  driver.start(data[1] % 2 == 0 ? driver.offered_features() : 0, queues);
  std::span<const std::uint8_t> rest(data + 2, size - 2);
  constexpr std::size_t kRings = 0x3000;
  const auto rings = rest.first(std::min(rest.size(), kRings));
  rest = rest.subspan(rings.size());
  for (unsigned queue = 0; queue < queues; ++queue)
    memory->write(VirtioDriver::descriptors(queue), std::as_bytes(rings));
  memory->write(0x1000, std::as_bytes(rings));
  for (unsigned queue = 0; queue < queues; ++queue) driver.notify(queue);
  while (rest.size() >= 6) {
    const auto offset = static_cast<std::uint64_t>(rest[0] | rest[1] << 8) % Device::kBarBytes;
    const unsigned width = 1U << (rest[2] % 4);
    if ((rest[2] & 0x80) != 0) {
      static_cast<void>(driver.read(offset, width));
    } else {
      driver.write(offset, width, rest[3] | rest[4] << 8 | std::uint64_t{rest[5]} << 60);
    }
    rest = rest.subspan(6);
  }
  return 0;
}
