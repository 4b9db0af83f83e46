#include "devices/isa_dma.h"

#include <gtest/gtest.h>

#include "state/contract.h"

namespace doppel::devices {
namespace {

TEST(IsaDma, PagesHoldAndControllersAreIdle) {
  IsaDma dma;
  dma.page_ports().write(0, 1, 0x42);
  dma.page_ports().write(0xF, 1, 0x24);
  EXPECT_EQ(dma.page_ports().read(0, 1), 0x42u);
  EXPECT_EQ(dma.page_ports().read(0xF, 1), 0x24u);
  dma.master_ports().write(0xB, 1, 0x56);
  EXPECT_EQ(dma.master_ports().read(8, 1), 0u) << "no request, nothing at its end";
  EXPECT_EQ(dma.master_ports().read(0xF, 1), 0x0Fu) << "all masked";
  EXPECT_EQ(dma.slave_ports().read(0x1E, 1), 0x0Fu);
}

TEST(IsaDma, Contract) {
  IsaDma dma;
  test::expect_contract(dma, [&] { dma.page_ports().write(3, 1, 1); });
  test::expect_schema("isa_dma", dma);
}

}  // namespace
}  // namespace doppel::devices
