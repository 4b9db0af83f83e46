#include "devices/virtio/file_system.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/temporary_directory.h"
#include "devices/virtio/driver.h"
#include "share/requests.h"
#include "state/contract.h"
#include "state/snapshot_io.h"

namespace doppel::devices::virtio {
namespace {

using test::FuseRequest;
using test::VirtioDriver;

constexpr unsigned kHighPriority = 0, kRequests = 1;

class VirtioFileSystem : public testing::Test {
 protected:
  UniqueFd open_shared() const { return UniqueFd(::open(directory.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)); }
  void start() { driver.start(driver.offered_features() & ~bit(feature::kEventIndex), 2); }

  const test::TemporaryDirectory directory;
  std::unique_ptr<memory::GuestMemory> memory = VirtioDriver::make_memory();
  FileSystem device{"share0", "share0", {open_shared(), false}, *memory};
  VirtioDriver driver{device, *memory};
};

TEST_F(VirtioFileSystem, TellsItsTagAndItsQueues) {
  std::string tag;
  for (std::uint64_t i = 0; i < 7; ++i) tag += static_cast<char>(driver.read(Device::kDeviceConfig + i, 1));
  EXPECT_EQ(tag, std::string("share0\0", 7));
  EXPECT_EQ(driver.read(Device::kDeviceConfig + FileSystem::kTagBytes, 4), 1U);
}

TEST_F(VirtioFileSystem, AnswersARequestAndTakesOneWithoutAnswer) {
  std::ofstream(directory / "file") << "12345";
  start();
  const auto places = driver.submit(kRequests, {FuseRequest(FUSE_LOOKUP, FUSE_ROOT_ID).text("file").bytes}, {16, 200});
  driver.notify(kRequests);
  const auto used = driver.take_used(kRequests);
  ASSERT_TRUE(used);
  EXPECT_EQ(used->length, sizeof(fuse_out_header) + sizeof(fuse_entry_out));
  fuse_entry_out entry{};
  memory->read_value(places[2], entry);
  EXPECT_EQ(entry.attr.size, 5U);

  driver.submit(kHighPriority, {FuseRequest(FUSE_FORGET, entry.nodeid).with(fuse_forget_in{1}).bytes}, {});
  driver.notify(kHighPriority);
  ASSERT_TRUE(driver.take_used(kHighPriority));
  EXPECT_FALSE(driver.failed());
}

TEST_F(VirtioFileSystem, ARequestLongerThanAgreedFailsTheDevice) {
  start();
  driver.submit(kRequests, {std::vector<std::byte>(share::FileServer::kMostBytes + 1)}, {64});
  driver.notify(kRequests);
  EXPECT_TRUE(driver.failed());
}

TEST_F(VirtioFileSystem, AfterALoadWhatTheGuestKnewIsStaleAndNamesAreLookedUpAgain) {
  std::ofstream(directory / "file") << "12345";
  start();
  const auto look_up = [this] {
    const auto places =
        driver.submit(kRequests, {FuseRequest(FUSE_LOOKUP, FUSE_ROOT_ID).text("file").bytes}, {16, 200});
    driver.notify(kRequests);
    EXPECT_TRUE(driver.take_used(kRequests));
    fuse_entry_out entry{};
    memory->read_value(places[2], entry);
    return entry.nodeid;
  };
  const std::uint64_t before = look_up();
  const auto describe = [this](state::Visitor& v) { device.describe(v); };
  device.pause();
  ASSERT_TRUE(state::load(state::save(describe), describe));
  device.resume();
  const auto places =
      driver.submit(kRequests, {FuseRequest(FUSE_GETATTR, before).with(fuse_getattr_in{}).bytes}, {200});
  driver.notify(kRequests);
  ASSERT_TRUE(driver.take_used(kRequests));
  fuse_out_header header{};
  memory->read_value(places[1], header);
  EXPECT_EQ(header.error, -ESTALE);
  EXPECT_GT(look_up(), before) << "a number that the guest may still know for another file";
}

TEST_F(VirtioFileSystem, Contract) {
  FileSystem fresh{"share0", "share0", {open_shared(), false}, *memory};
  std::optional<VirtioDriver> user;
  test::expect_contract(fresh, [&] {
    user.emplace(fresh, *memory);
    user->start(user->offered_features(), 2);
  });
  test::expect_schema("virtio_file_system", fresh);
}

}  // namespace
}  // namespace doppel::devices::virtio
