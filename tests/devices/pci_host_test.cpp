#include "devices/pci_host.h"

#include <gtest/gtest.h>

#include "devices/reset_control.h"
#include "state/contract.h"

namespace doppel::devices {
namespace {

class PciHostTest : public testing::Test {
 protected:
  PciHostTest() {
    reset_control.set_on_reset([this] { ++resets; });
    pci.attach(bridge, 0);
  }
  std::uint64_t config(std::uint32_t address, unsigned offset = 0, unsigned size = 4) {
    host.address_ports().write(0, 4, address);
    return host.data_ports().read(offset, size);
  }

  int resets = 0;
  ResetControl reset_control;
  bus::PciBus pci{{.message = [](std::uint64_t, std::uint32_t) {}, .intx = [](unsigned, bool) {}}};
  PciHostBridge bridge;
  PciHost host{pci, reset_control};
};

TEST_F(PciHostTest, HostBridgeIsAlone) {
  EXPECT_EQ(config(0x8000'0000), 0x29C0'8086u);
  EXPECT_EQ(config(0x8000'0000, 2, 2), 0x29C0u);
  EXPECT_EQ(config(0x8000'0008, 3, 1), 0x06u);
  EXPECT_EQ(config(0x8000'000C), 0u) << "header type 0, one function";
  EXPECT_EQ(config(0x8000'0100), 0xFFFF'FFFFu) << "function 1";
  EXPECT_EQ(config(0x8000'0800), 0xFFFF'FFFFu) << "device 1";
  EXPECT_EQ(config(0x8001'0000), 0xFFFF'FFFFu) << "bus 1";
  EXPECT_EQ(config(0x0000'0000), 0xFFFF'FFFFu) << "not enabled";
  EXPECT_EQ(config(0x8000'0800, 0, 2), 0xFFFFu);
}

TEST_F(PciHostTest, WritesReachTheFunction) {
  host.address_ports().write(0, 4, 0x8000'0004);
  host.data_ports().write(0, 2, 0xFFFF);
  EXPECT_EQ(config(0x8000'0004, 0, 2), 0x0547u) << "the command bits that the bridge has";
  host.address_ports().write(0, 4, 0x0000'0004);
  host.data_ports().write(0, 2, 0);
  EXPECT_EQ(config(0x8000'0004, 0, 2), 0x0547u) << "not enabled";
}

TEST_F(PciHostTest, OnlyDoublewordsReachTheAddressRegister) {
  host.address_ports().write(0, 4, 0xFFFF'FFFF);
  EXPECT_EQ(host.address_ports().read(0, 4), 0x80FF'FFFCu);
  host.address_ports().write(3, 1, 0x01);
  host.address_ports().write(0, 2, 0x1234);
  EXPECT_EQ(host.address_ports().read(0, 4), 0x80FF'FFFCu);
  EXPECT_EQ(host.address_ports().read(0, 2), 0xFFFFu);
}

TEST_F(PciHostTest, ByteAtCf9IsTheResetControl) {
  host.address_ports().write(1, 1, 0x02);
  EXPECT_EQ(resets, 0);
  host.address_ports().write(1, 1, 0x06);
  EXPECT_EQ(resets, 1);
  EXPECT_EQ(host.address_ports().read(1, 1), 0x02u);
  host.address_ports().write(1, 1, 0x0E);
  EXPECT_EQ(resets, 2) << "RST_CPU fell by itself";
}

TEST_F(PciHostTest, Contract) {
  test::expect_contract(host, [this] { (void)config(0x8000'1234); });
  test::expect_schema("pci_host", host);
  test::expect_contract(bridge, [this] {
    host.address_ports().write(0, 4, 0x8000'0004);
    host.data_ports().write(0, 2, 6);
  });
  test::expect_schema("pci_host_bridge", bridge);
  test::expect_contract(reset_control, [this] { reset_control.write(0, 1, 0x02); });
  test::expect_schema("reset_control", reset_control);
}

}  // namespace
}  // namespace doppel::devices
