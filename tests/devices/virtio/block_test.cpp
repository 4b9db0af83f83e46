#include "devices/virtio/block.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "devices/virtio/driver.h"
#include "state/contract.h"

namespace doppel::devices::virtio {
namespace {

using storage::BlockOperation;
using test::as_vector;
using test::VirtioDriver;

/// A disk in memory that answers at once, or, once `hold` is set, when it is told to.
class FakeDisk : public storage::BlockDevice {
 public:
  FakeDisk() {
    traits_.capacity = contents.size();
    traits_.can_discard = traits_.can_write_zeroes = true;
  }
  const storage::BlockTraits& traits() const override { return traits_; }
  std::uint64_t capacity() const override { return traits_.capacity; }
  void submit(storage::BlockRequest& request) override {
    operations.push_back(request.operation);
    durable = request.durable;
    if (hold) {
      held.push_back(&request);
    } else {
      perform(request);
    }
  }
  void drain() override {}

  void perform(storage::BlockRequest& request) {
    std::byte* at = contents.data() + request.offset;
    for (const iovec& vector : request.buffers) {
      if (request.operation == BlockOperation::Read) std::memcpy(vector.iov_base, at, vector.iov_len);
      if (request.operation == BlockOperation::Write) std::memcpy(at, vector.iov_base, vector.iov_len);
      at += vector.iov_len;
    }
    if (request.operation == BlockOperation::WriteZeroes) std::memset(at, 0, request.length);
    request.done(request, error);
  }

  std::vector<std::byte> contents = std::vector<std::byte>(64 * 512);
  std::vector<BlockOperation> operations;
  std::vector<storage::BlockRequest*> held;
  bool hold = false, durable = false;
  int error = 0;
  storage::BlockTraits traits_;
};

struct Header {
  std::uint32_t type, reserved = 0;
  std::uint64_t sector = 0;
};
struct Segment {
  std::uint64_t sector;
  std::uint32_t sectors, flags = 0;
};

class VirtioBlock : public testing::Test {
 protected:
  void start() { driver.start(driver.offered_features() & ~bit(feature::kEventIndex), 1); }
  std::uint8_t status_of(const std::vector<std::vector<std::byte>>& out, std::vector<std::uint32_t> in = {}) {
    in.push_back(1);
    places = driver.submit(0, out, in);
    driver.notify(0);
    return static_cast<std::uint8_t>(driver.bytes(places.back(), 1)[0]);
  }

  std::unique_ptr<memory::GuestMemory> memory = VirtioDriver::make_memory();
  FakeDisk* disk = new FakeDisk;
  Block device{{.name = "disk0", .serial = "serial-7"}, std::unique_ptr<storage::BlockDevice>(disk), *memory};
  VirtioDriver driver{device, *memory};
  std::vector<std::uint64_t> places;
};

TEST_F(VirtioBlock, TellsItsSizeAndLimits) {
  EXPECT_EQ(driver.read(Device::kDeviceConfig, 8), 64u);
  EXPECT_EQ(driver.read(Device::kDeviceConfig + 12, 4), 254u);
  EXPECT_EQ(driver.read(Device::kDeviceConfig + 20, 4), 512u);
  EXPECT_EQ(driver.read(Device::kDeviceConfig + 34, 2), 1u);
}

TEST_F(VirtioBlock, ReadsWhatWasWritten) {
  start();
  const std::vector<std::byte> pattern(1024, std::byte{0x5A});
  EXPECT_EQ(status_of({as_vector(Header{1, 0, 3}), pattern}), 0);
  EXPECT_EQ(driver.take_used(0)->length, 1u);
  EXPECT_EQ(disk->contents[3 * 512], std::byte{0x5A});
  memory->dirty().collect();
  EXPECT_EQ(status_of({as_vector(Header{0, 0, 3})}, {512, 512}), 0);
  EXPECT_EQ(driver.take_used(0)->length, 1025u);
  EXPECT_EQ(driver.bytes(places[1], 512), std::vector<std::byte>(512, std::byte{0x5A}));
  EXPECT_TRUE(memory->dirty().is_dirty(memory->page_index(places[1])));
}

TEST_F(VirtioBlock, FlushesDiscardsAndZeroes) {
  start();
  disk->contents.assign(disk->contents.size(), std::byte{1});
  EXPECT_EQ(status_of({as_vector(Header{4})}), 0);
  EXPECT_EQ(status_of({as_vector(Header{11}), as_vector(Segment{2, 2})}), 0);
  EXPECT_EQ(status_of({as_vector(Header{13}), as_vector(Segment{4, 1, 1})}), 0);
  EXPECT_EQ(disk->operations,
            (std::vector{BlockOperation::Flush, BlockOperation::Discard, BlockOperation::WriteZeroes}));
  EXPECT_EQ(disk->contents[4 * 512], std::byte{0});
  EXPECT_EQ(disk->contents[5 * 512], std::byte{1});
}

TEST_F(VirtioBlock, GivesItsSerialNumber) {
  start();
  EXPECT_EQ(status_of({as_vector(Header{8})}, {20}), 0);
  EXPECT_EQ(driver.text(places[1], 9), std::string("serial-7\0", 9));
}

TEST_F(VirtioBlock, RefusesWhatLiesOutsideOrIsOdd) {
  start();
  EXPECT_EQ(status_of({as_vector(Header{0, 0, 64})}, {512}), 1);
  EXPECT_EQ(status_of({as_vector(Header{0, 0, ~std::uint64_t{0} / 512})}, {512}), 1);
  EXPECT_EQ(status_of({as_vector(Header{0, 0, 0})}, {100}), 1);
  EXPECT_EQ(status_of({as_vector(Header{11}), as_vector(Segment{63, 2})}), 1);
  EXPECT_EQ(status_of({as_vector(Header{13}), as_vector(Segment{0, 1, 4})}), 2);
  EXPECT_EQ(status_of({as_vector(Header{99})}), 2);
  EXPECT_TRUE(disk->operations.empty());
  EXPECT_FALSE(driver.failed());
}

TEST_F(VirtioBlock, TellsErrorsOfTheDisk) {
  start();
  disk->error = EIO;
  EXPECT_EQ(status_of({as_vector(Header{0, 0, 0})}, {512}), 1);
  disk->error = EOPNOTSUPP;
  EXPECT_EQ(status_of({as_vector(Header{4})}), 2);
}

TEST_F(VirtioBlock, WritesThroughForADriverThatCannotFlush) {
  driver.start(0, 1);
  EXPECT_EQ(status_of({as_vector(Header{1}), std::vector<std::byte>(512)}), 0);
  EXPECT_TRUE(disk->durable);
  start();
  EXPECT_EQ(status_of({as_vector(Header{1}), std::vector<std::byte>(512)}), 0);
  EXPECT_FALSE(disk->durable);
}

TEST_F(VirtioBlock, ARequestWithoutHeaderOrStatusFailsTheDevice) {
  start();
  driver.submit(0, {std::vector<std::byte>(15)}, {1});
  driver.notify(0);
  EXPECT_TRUE(driver.failed());
  start();
  driver.submit(0, {as_vector(Header{4})}, {});
  driver.notify(0);
  EXPECT_TRUE(driver.failed());
}

TEST_F(VirtioBlock, CompletesFromAnotherThread) {
  start();
  disk->hold = true;
  places = driver.submit(0, {as_vector(Header{0, 0, 1})}, {512, 1});
  driver.notify(0);
  EXPECT_FALSE(driver.take_used(0));
  std::thread([this] { disk->perform(*disk->held.at(0)); }).join();
  EXPECT_TRUE(driver.take_used(0));
  EXPECT_TRUE(driver.intx);
}

TEST_F(VirtioBlock, APauseWaitsForWhatIsInFlight) {
  start();
  disk->hold = true;
  driver.submit(0, {as_vector(Header{0, 0, 1})}, {512, 1});
  driver.notify(0);
  std::thread completer([this] { disk->perform(*disk->held.at(0)); });
  device.pause();
  EXPECT_TRUE(driver.take_used(0));
  completer.join();
}

TEST_F(VirtioBlock, AResetForgetsWhatWasInFlight) {
  // What completes before the reset has begun is not forgotten; which comes first is the scheduler's choice.
  for (unsigned attempt = 0; attempt < 1000; ++attempt) {
    start();
    disk->hold = true;
    disk->held.clear();
    driver.submit(0, {as_vector(Header{0, 0, 1})}, {512, 1});
    driver.notify(0);
    std::thread completer([this] { disk->perform(*disk->held.at(0)); });
    driver.write(0x14, 1, 0);
    completer.join();
    if (!driver.take_used(0)) return;
  }
  FAIL() << "a request that was in flight is always completed";
}

TEST_F(VirtioBlock, TellsTheDriverOfANewSize) {
  start();
  disk->traits_.capacity = 128 * 512;
  device.capacity_changed();
  EXPECT_EQ(driver.read(Device::kDeviceConfig, 8), 128u);
  EXPECT_EQ(driver.read(Device::kIsr, 1), 2u);
}

TEST_F(VirtioBlock, Contract) {
  Block fresh{{.name = "disk0", .serial = "s"}, std::make_unique<FakeDisk>(), *memory};
  std::optional<VirtioDriver> user;
  test::expect_contract(fresh, [&] {
    user.emplace(fresh, *memory);
    user->start(user->offered_features(), 1);
    user->write(Device::kDeviceConfig + 32, 1, 0);
    user->submit(0, {as_vector(Header{4})}, {1});
    user->notify(0);
  });
  test::expect_schema("virtio_block", fresh);
}

}  // namespace
}  // namespace doppel::devices::virtio
