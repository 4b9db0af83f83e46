#include "devices/port92.h"

#include <gtest/gtest.h>

#include "state/contract.h"

namespace doppel::devices {
namespace {

TEST(Port92, GatesA20AndResetsOnARisingBit) {
  Port92 port;
  bool a20 = true;
  int resets = 0;
  port.set_on_a20([&](bool on) { a20 = on; });
  port.set_on_reset([&] { ++resets; });
  EXPECT_EQ(port.read(0, 1), 0x02u);
  port.write(0, 1, 0xFC);
  EXPECT_FALSE(a20);
  EXPECT_EQ(port.read(0, 1), 0x00u);
  port.write(0, 1, 0x03);
  EXPECT_TRUE(a20);
  EXPECT_EQ(resets, 1);
  port.write(0, 1, 0x03);
  EXPECT_EQ(resets, 1);
}

TEST(Port92, Contract) {
  Port92 port;
  test::expect_contract(port, [&] { port.write(0, 1, 0x01); });
  test::expect_schema("port92", port);
}

}  // namespace
}  // namespace doppel::devices
