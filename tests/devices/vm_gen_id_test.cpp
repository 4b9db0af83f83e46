#include "devices/vm_gen_id.h"

#include <gtest/gtest.h>

#include "state/contract.h"

namespace doppel::devices {
namespace {

class VmGenIdTest : public testing::Test {
 protected:
  static VmGenId::Guid guid(unsigned char first) {
    VmGenId::Guid guid{};
    guid[0] = std::byte{first};
    return guid;
  }
  VmGenId::Guid in_memory() {
    VmGenId::Guid guid{};
    EXPECT_TRUE(memory->read(kAddress, guid));
    return guid;
  }

  static constexpr memory::GuestPhysical kAddress = 0xE'F000;
  std::unique_ptr<memory::GuestMemory> memory = std::move(*memory::GuestMemory::create(1 << 20));
  VmGenId device{*memory, kAddress, guid(1)};
};

TEST_F(VmGenIdTest, ResetPutsItIntoMemory) {
  EXPECT_EQ(in_memory(), VmGenId::Guid{});
  device.reset(bus::ResetKind::Cold);
  EXPECT_EQ(in_memory(), guid(1));
}

TEST_F(VmGenIdTest, ChangeTellsTheGuest) {
  VmGenId::Guid seen{};
  device.set_on_changed([&] { seen = in_memory(); });
  device.change(guid(2));
  EXPECT_EQ(seen, guid(2));
  memory->clear();
  device.reset(bus::ResetKind::Warm);
  EXPECT_EQ(in_memory(), guid(2));
}

TEST_F(VmGenIdTest, Contract) {
  test::expect_contract(device, [this] { device.change(guid(3)); });
  test::expect_schema("vm_gen_id", device);
}

}  // namespace
}  // namespace doppel::devices
