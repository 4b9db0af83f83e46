#include "devices/interrupt_controllers.h"

#include <gtest/gtest.h>

#include "devices/line_probe.h"
#include "devices/manual_time.h"
#include "irq/gsi_router.h"
#include "state/contract.h"

namespace doppel::devices {
namespace {

/// The board: PIC to LINT0 and IOAPIC pin 0, router, two processors.
class InterruptControllersTest : public testing::Test {
 protected:
  InterruptControllersTest() {
    bus.attach(io_apic.chip());
    pic.chip().connect_intr(irq::IrqLine(bsp.chip(), irq::LocalApic::kLint0));
    bsp.chip().set_ext_int_acknowledge([this] { return pic.chip().acknowledge(); });
    bsp.chip().enter_virtual_wire_mode();
  }

  test::ManualTime time;
  irq::ApicBus bus;
  PicDevice pic;
  IoApicDevice io_apic{bus};
  LocalApicDevice bsp{{.apic_id = 0, .bootstrap = true}, bus, time.clock, time.timers};
  LocalApicDevice ap{{.apic_id = 1}, bus, time.clock, time.timers};
  irq::GsiRouter router{pic.chip(), io_apic.chip()};
};

TEST_F(InterruptControllersTest, PicInterruptsTheBootProcessor) {
  for (const std::uint8_t value : {0x11, 0x20, 0x04, 0x01}) pic.master_ports().write(value == 0x11 ? 0 : 1, 1, value);
  pic.master_ports().write(1, 1, 0xFE);
  EXPECT_FALSE(bsp.chip().pending());
  router.set_input(0, true);
  EXPECT_TRUE(bsp.chip().pending());
  EXPECT_EQ(bsp.chip().acknowledge(), 0x20);
  EXPECT_FALSE(bsp.chip().pending());
}

TEST_F(InterruptControllersTest, PortsOfThePic) {
  pic.slave_ports().write(1, 1, 0x5A);
  EXPECT_EQ(pic.slave_ports().read(1, 1), 0x5Au);
  EXPECT_EQ(pic.master_ports().read(1, 1), 0x00u);
  pic.elcr_ports().write(0, 2, 0xFFFF);
  EXPECT_EQ(pic.elcr_ports().read(0, 2), 0xDEF8u);
}

TEST_F(InterruptControllersTest, LevelInterruptGoesRoundUntilItsLineFalls) {
  pic.slave_ports().write(1, 1, 0xFF);
  io_apic.write(0x00, 4, 0x10 + 2 * 9);
  io_apic.write(0x10, 4, 0x8039);
  router.set_input(9, true);
  EXPECT_EQ(bsp.chip().acknowledge(), 0x39);
  EXPECT_FALSE(bsp.chip().pending());
  bsp.chip().write(0xB0, 4, 0);
  EXPECT_TRUE(bsp.chip().pending()) << "EOI with the line high sends it again";
  EXPECT_EQ(bsp.chip().acknowledge(), 0x39);
  router.set_input(9, false);
  bsp.chip().write(0xB0, 4, 0);
  EXPECT_FALSE(bsp.chip().pending());
}

TEST_F(InterruptControllersTest, NamesAreDistinct) {
  EXPECT_EQ(bsp.name(), "lapic0");
  EXPECT_EQ(ap.name(), "lapic1");
  EXPECT_EQ(pic.name(), "pic");
  EXPECT_EQ(io_apic.name(), "ioapic");
}

TEST_F(InterruptControllersTest, Contract) {
  test::expect_contract(pic, [this] { pic.master_ports().write(1, 1, 0x5A); });
  test::expect_contract(io_apic, [this] { io_apic.write(0x00, 1, 7); });
  test::expect_contract(ap, [this] { ap.chip().write(0x80, 4, 0x20); });
}

}  // namespace
}  // namespace doppel::devices
