#include "irq/msi.h"

#include <gtest/gtest.h>

namespace doppel::irq {
namespace {

TEST(Msi, OnlyTheInterruptRangeIsAMessage) {
  EXPECT_FALSE(decode_msi(0xFEDF'FFFC, 0x41));
  EXPECT_FALSE(decode_msi(0xFEF0'0000, 0x41));
  EXPECT_FALSE(decode_msi(0x1'FEE0'0000, 0x41));
  EXPECT_TRUE(decode_msi(0xFEE0'0000, 0x41));
}

TEST(Msi, AddressNamesTheDestination) {
  EXPECT_EQ(decode_msi(0xFEE0'3000, 0x41), (Message{.destination = 3, .vector = 0x41}));
  EXPECT_EQ(decode_msi(0xFEEF'F000, 0x41), (Message{.destination = kBroadcast, .vector = 0x41}));
  EXPECT_EQ(decode_msi(0xFEEF'F004, 0x41),
            (Message{.destination = 0xFF, .destination_mode = DestinationMode::Logical, .vector = 0x41}));
}

TEST(Msi, RedirectionHintMeansLowestPriority) {
  EXPECT_EQ(decode_msi(0xFEE0'300C, 0x41)->delivery_mode, DeliveryMode::LowestPriority);
  EXPECT_EQ(decode_msi(0xFEE0'300C, 0x441)->delivery_mode, DeliveryMode::Nmi);
}

TEST(Msi, DataCarriesModeAndTrigger) {
  EXPECT_EQ(decode_msi(0xFEE0'0000, 0xC541),
            (Message{.delivery_mode = DeliveryMode::Init, .vector = 0x41, .trigger_mode = TriggerMode::Level}));
}

}  // namespace
}  // namespace doppel::irq
