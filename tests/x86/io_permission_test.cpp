#include "x86/io_permission.h"

#include "segmented_test.h"

namespace doppel::x86::test {
namespace {

class IoPermission : public SegmentedTest {
 protected:
  static constexpr std::uint16_t kMap = 0x68;

  IoPermission() { poke_physical<std::uint16_t>(kTss + 0x66, kMap); }

  void set_tss_limit(std::uint32_t limit) { state.tr.limit = limit; }
  bool allowed(std::uint16_t port, unsigned size) {
    return fault_of([&] { check_io_permission(cpu, port, size); }).vector == 0xFF;
  }
};

TEST_F(IoPermission, PrivilegeOrRealModeNeedsNoMap) {
  enter_real_mode();
  EXPECT_TRUE(allowed(0x60, 1));
  enter_protected_mode(0);
  EXPECT_TRUE(allowed(0x60, 1));
  enter_protected_mode(3);
  EXPECT_FAULT_CODE(vector::kGp, 0, check_io_permission(cpu, 0x60, 1));
  state.set_rflags(rflags::kIopl);
  EXPECT_TRUE(allowed(0x60, 1));
}

TEST_F(IoPermission, EveryBitOfTheAccessMustBeClear) {
  enter_protected_mode(3);
  set_tss_limit(kMap + 0x2000);
  poke_physical<std::uint8_t>(kTss + kMap + 0x60 / 8, 0x04);  // port 62h
  EXPECT_TRUE(allowed(0x60, 1));
  EXPECT_TRUE(allowed(0x60, 2));
  EXPECT_FALSE(allowed(0x60, 4));
  EXPECT_FALSE(allowed(0x62, 1));
  EXPECT_FALSE(allowed(0x5F, 4));  // across two bytes of the map
  EXPECT_TRUE(allowed(0x5E, 4));
  EXPECT_TRUE(allowed(0x63, 4));
  EXPECT_TRUE(allowed(0xFFFF, 1));
}

TEST_F(IoPermission, PortsBeyondTheTssAreDenied) {
  enter_protected_mode(3);
  set_tss_limit(kMap + 0x10);
  EXPECT_TRUE(allowed(0x7F, 1));
  EXPECT_FALSE(allowed(0x80, 1));  // its second byte is missing
}

TEST_F(IoPermission, Virtual8086ModeAlwaysHasTheMap) {
  enter_virtual_8086_mode(3);
  EXPECT_FALSE(allowed(0x60, 1));
  set_tss_limit(kMap + 0x2000);
  EXPECT_TRUE(allowed(0x60, 1));
}

TEST_F(IoPermission, A16BitTssHasNoMap) {
  enter_protected_mode(3);
  set_tss_limit(kMap + 0x2000);
  state.tr.attributes = Segment::kP | kTss16Busy;
  EXPECT_FALSE(allowed(0x60, 1));
}

}  // namespace
}  // namespace doppel::x86::test
