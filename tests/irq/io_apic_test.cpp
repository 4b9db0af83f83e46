#include "irq/io_apic.h"

#include <gtest/gtest.h>

#include "irq/message_probe.h"
#include "state/contract.h"

namespace doppel::irq {
namespace {

class IoApicTest : public testing::Test {
 protected:
  std::uint32_t read(std::uint8_t index) {
    chip.write(0x00, index);
    return chip.read(0x10);
  }
  void write(std::uint8_t index, std::uint32_t value) {
    chip.write(0x00, index);
    chip.write(0x10, value);
  }
  void program(unsigned pin, std::uint32_t low, std::uint32_t high = 0) {
    write(static_cast<std::uint8_t>(0x11 + 2 * pin), high);
    write(static_cast<std::uint8_t>(0x10 + 2 * pin), low);
  }
  std::uint32_t low(unsigned pin) { return read(static_cast<std::uint8_t>(0x10 + 2 * pin)); }

  static constexpr std::uint32_t kMasked = 1 << 16, kLevel = 1 << 15, kRemoteIrr = 1 << 14;

  test::MessageProbe bus;
  IoApic chip{bus};
};

TEST_F(IoApicTest, RegistersAfterReset) {
  EXPECT_EQ(read(0x00), 0u);
  EXPECT_EQ(read(0x01), 0x0017'0020u);
  EXPECT_EQ(read(0x02), 0u);
  for (unsigned pin = 0; pin < 24; ++pin) {
    EXPECT_EQ(low(pin), kMasked);
    EXPECT_EQ(read(static_cast<std::uint8_t>(0x11 + 2 * pin)), 0u);
  }
  EXPECT_EQ(read(0x40), 0u);
}

TEST_F(IoApicTest, IdHasFourBits) {
  write(0x00, 0xFFFF'FFFF);
  EXPECT_EQ(read(0x00), 0x0F00'0000u);
  EXPECT_EQ(read(0x02), 0x0F00'0000u);
}

TEST_F(IoApicTest, StatusBitsAreReadOnly) {
  program(3, 0xFFFF'FFFF, 0xFFFF'FFFF);
  EXPECT_EQ(low(3), 0x0001'AFFFu);
  EXPECT_EQ(read(0x17), 0xFF00'0000u);
}

TEST_F(IoApicTest, EdgeSendsOnce) {
  program(4, 0x31, 0x0200'0000);
  chip.set_input(4, true);
  chip.set_input(4, true);
  chip.set_input(4, false);
  EXPECT_EQ(bus.take(), (std::vector<Message>{{.destination = 2, .vector = 0x31}}));
  EXPECT_EQ(low(4) & kRemoteIrr, 0u);
}

TEST_F(IoApicTest, EdgeOnMaskedPinIsLost) {
  program(4, kMasked | 0x31);
  chip.set_input(4, true);
  program(4, 0x31);
  EXPECT_TRUE(bus.take().empty());
}

TEST_F(IoApicTest, LevelIsSentAgainAfterEoiWhileTheLineIsHigh) {
  program(9, kLevel | 0x39);
  chip.set_input(9, true);
  ASSERT_EQ(bus.take().size(), 1u);
  EXPECT_EQ(low(9) & kRemoteIrr, kRemoteIrr);
  chip.set_input(9, false);
  chip.set_input(9, true);
  EXPECT_TRUE(bus.take().empty()) << "remote IRR holds it back";
  chip.end_of_interrupt(0x39);
  ASSERT_EQ(bus.take().size(), 1u);
  chip.set_input(9, false);
  chip.end_of_interrupt(0x39);
  EXPECT_TRUE(bus.take().empty());
  EXPECT_EQ(low(9) & kRemoteIrr, 0u);
}

TEST_F(IoApicTest, MaskedLevelWaits) {
  program(9, kLevel | kMasked | 0x39);
  chip.set_input(9, true);
  EXPECT_TRUE(bus.take().empty());
  program(9, kLevel | 0x39);
  EXPECT_EQ(bus.take().size(), 1u);
}

TEST_F(IoApicTest, EoiRegisterWorksAsTheBroadcast) {
  program(9, kLevel | 0x39);
  chip.set_input(9, true);
  chip.set_input(9, false);
  chip.write(0x40, 0x38);
  EXPECT_EQ(low(9) & kRemoteIrr, kRemoteIrr);
  chip.write(0x40, 0x39);
  EXPECT_EQ(low(9) & kRemoteIrr, 0u);
}

TEST_F(IoApicTest, MakingAPinEdgeSensitiveClearsRemoteIrr) {
  program(9, kLevel | 0x39);
  chip.set_input(9, true);
  program(9, kMasked | 0x39);
  EXPECT_EQ(low(9) & kRemoteIrr, 0u);
}

TEST_F(IoApicTest, EoiEndsEveryPinWithTheVector) {
  program(9, kLevel | 0x39);
  program(10, kLevel | 0x39);
  chip.set_input(9, true);
  chip.set_input(10, true);
  chip.set_input(9, false);
  chip.set_input(10, false);
  chip.end_of_interrupt(0x39);
  EXPECT_EQ(low(9) & kRemoteIrr, 0u);
  EXPECT_EQ(low(10) & kRemoteIrr, 0u);
}

struct DeliveryRow {
  std::uint32_t low;
  std::uint32_t high;
  Message message;
};
class IoApicDelivery : public IoApicTest, public testing::WithParamInterface<DeliveryRow> {};

TEST_P(IoApicDelivery, FollowsTheRedirectionEntry) {
  program(5, GetParam().low, GetParam().high);
  chip.set_input(5, true);
  EXPECT_EQ(bus.take(), std::vector<Message>{GetParam().message});
}

INSTANTIATE_TEST_SUITE_P(
    Table, IoApicDelivery,
    testing::Values(DeliveryRow{0x0041, 0x0100'0000, {.destination = 1, .vector = 0x41}},
                    DeliveryRow{0x0041, 0xFF00'0000, {.destination = kBroadcast, .vector = 0x41}},
                    DeliveryRow{0x0841,
                                0xFF00'0000,
                                {.destination = 0xFF, .destination_mode = DestinationMode::Logical, .vector = 0x41}},
                    DeliveryRow{0x0141, 0, {.delivery_mode = DeliveryMode::LowestPriority, .vector = 0x41}},
                    DeliveryRow{0x0200, 0, {.delivery_mode = DeliveryMode::Smi}},
                    DeliveryRow{0x0400, 0, {.delivery_mode = DeliveryMode::Nmi}},
                    DeliveryRow{0x0500, 0, {.delivery_mode = DeliveryMode::Init}},
                    DeliveryRow{0x0700, 0, {.delivery_mode = DeliveryMode::ExtInt}},
                    DeliveryRow{0x8041, 0, {.vector = 0x41, .trigger_mode = TriggerMode::Level}}));

TEST_F(IoApicTest, PinsThatDoNotExistAreIgnored) {
  chip.set_input(24, true);
  chip.set_input(1000, true);
  EXPECT_TRUE(bus.take().empty());
}

TEST_F(IoApicTest, LevelInServiceAtSaveComesAgainAfterRestoreAndEoi) {
  program(9, kLevel | 0x39);
  chip.set_input(9, true);
  const auto saved = state::save(test::describe_of(chip));

  test::MessageProbe other_bus;
  IoApic other(other_bus);
  ASSERT_TRUE(state::load(saved, test::describe_of(other)).ok());
  other.set_input(9, true);  // the restored device raises its line again
  EXPECT_TRUE(other_bus.take().empty()) << "it is in service already";
  other.end_of_interrupt(0x39);
  EXPECT_EQ(other_bus.take().size(), 1u);
}

TEST_F(IoApicTest, Contract) {
  test::expect_contract(
      chip, [this] { chip.reset(); },
      [this] {
        write(0x00, 0x0500'0000);
        program(9, kLevel | 0x39, 0x0300'0000);
        chip.set_input(9, true);
        chip.set_input(11, true);
      });
  test::expect_schema("ioapic", chip);
}

}  // namespace
}  // namespace doppel::irq
