#include "irq/gsi_router.h"

#include <gtest/gtest.h>

#include "devices/line_probe.h"

namespace doppel::irq {
namespace {

TEST(GsiRouter, IsaInterruptsReachBothControllers) {
  test::LineProbe pic;
  test::LineProbe io_apic;
  GsiRouter router(pic, io_apic);
  for (unsigned irq = 0; irq < 16; ++irq) {
    router.set_input(irq, true);
    EXPECT_TRUE(pic.level(irq));
    EXPECT_TRUE(io_apic.level(irq == 0 ? 2 : irq));
    router.set_input(irq, false);
    EXPECT_FALSE(pic.level(irq));
    EXPECT_FALSE(io_apic.level(irq == 0 ? 2 : irq));
  }
  EXPECT_EQ(io_apic.take_edges(0), 0u) << "pin 0 is the PIC's";
}

TEST(GsiRouter, OthersReachTheIoApicOnly) {
  test::LineProbe pic;
  test::LineProbe io_apic;
  GsiRouter router(pic, io_apic);
  router.set_input(20, true);
  EXPECT_TRUE(io_apic.level(20));
  for (unsigned irq = 0; irq < 32; ++irq) EXPECT_FALSE(pic.level(irq));
}

}  // namespace
}  // namespace doppel::irq
