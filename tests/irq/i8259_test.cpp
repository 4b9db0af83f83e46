#include "irq/i8259.h"

#include <gtest/gtest.h>

namespace doppel::irq {
namespace {

/// Initialized as every PC operating system does it: cascade, ICW4, vectors from 20h.
class I8259Test : public testing::Test {
 protected:
  I8259Test() { initialize(0x01); }

  void initialize(std::uint8_t icw4) {
    chip.write(0, 0x11);
    chip.write(1, 0x20);
    chip.write(1, 0x04);
    chip.write(1, icw4);
  }
  void pulse(unsigned pin) {
    chip.set_input(pin, true);
    chip.set_input(pin, false);
  }
  std::uint8_t irr() {
    chip.write(0, 0x0A);
    return chip.read(0);
  }
  std::uint8_t isr() {
    chip.write(0, 0x0B);
    return chip.read(0);
  }

  I8259 chip{0xFF};
};

TEST_F(I8259Test, VectorIsIcw2AndThePin) {
  EXPECT_EQ(chip.vector(0), 0x20);
  EXPECT_EQ(chip.vector(7), 0x27);
  chip.write(0, 0x11);
  chip.write(1, 0x77);  // the low three bits are the pin's
  chip.write(1, 0x04);
  chip.write(1, 0x01);
  EXPECT_EQ(chip.vector(3), 0x73);
}

TEST_F(I8259Test, Icw1WithoutIc4AndWithSngNeedsOnlyIcw2) {
  chip.write(0, 0x12);
  chip.write(1, 0x40);
  chip.write(1, 0xA5);  // already OCW1
  EXPECT_EQ(chip.read(1), 0xA5);
}

TEST_F(I8259Test, InitializationClearsMaskServiceAndPriority) {
  chip.write(1, 0xFF);
  chip.write(0, 0xC0 | 3);  // priority: 3 is lowest
  initialize(0x01);
  EXPECT_EQ(chip.read(1), 0);
  pulse(4);
  pulse(0);
  EXPECT_EQ(chip.acknowledge(), 0);
}

TEST_F(I8259Test, EdgeIsLatchedUntilAcknowledged) {
  pulse(3);
  EXPECT_EQ(irr(), 0x08);
  EXPECT_TRUE(chip.output());
  EXPECT_EQ(chip.acknowledge(), 3);
  EXPECT_EQ(irr(), 0x00);
  EXPECT_EQ(isr(), 0x08);
  EXPECT_FALSE(chip.output());
}

TEST_F(I8259Test, HeldLineDoesNotRequestTwice) {
  chip.set_input(3, true);
  chip.acknowledge();
  chip.write(0, 0x20);
  chip.set_input(3, true);
  EXPECT_FALSE(chip.output());
  chip.set_input(3, false);
  chip.set_input(3, true);
  EXPECT_TRUE(chip.output());
}

TEST_F(I8259Test, LineThatIsHighDuringInitializationMustFallFirst) {
  chip.set_input(3, true);
  initialize(0x01);
  EXPECT_FALSE(chip.output());
}

TEST_F(I8259Test, MaskHoldsBackButDoesNotForget) {
  chip.write(1, 0x08);
  pulse(3);
  EXPECT_FALSE(chip.output());
  chip.write(1, 0x00);
  EXPECT_TRUE(chip.output());
}

TEST_F(I8259Test, LevelRequestsAsLongAsTheLineIsHigh) {
  chip.set_elcr(0x20);
  chip.set_input(5, true);
  EXPECT_EQ(chip.acknowledge(), 5);
  EXPECT_FALSE(chip.output());  // in service
  chip.write(0, 0x20);
  EXPECT_TRUE(chip.output());
  chip.set_input(5, false);
  EXPECT_FALSE(chip.output());
  EXPECT_EQ(chip.acknowledge(), -1);
}

TEST_F(I8259Test, FullyNestedLetsOnlyHigherPrioritiesInterrupt) {
  pulse(3);
  chip.acknowledge();
  pulse(4);
  EXPECT_FALSE(chip.output());
  pulse(2);
  EXPECT_TRUE(chip.output());
  EXPECT_EQ(chip.acknowledge(), 2);
  EXPECT_EQ(isr(), 0x0C);
  chip.write(0, 0x20);  // non-specific EOI ends the highest
  EXPECT_EQ(isr(), 0x08);
  chip.write(0, 0x63);  // specific EOI of 3
  EXPECT_EQ(isr(), 0x00);
  EXPECT_EQ(chip.acknowledge(), 4);
}

/// OCW2 (data sheet, figure 8): the value, ISR and lowest priority before and after.
struct Ocw2Row {
  std::uint8_t value;
  std::uint8_t isr_after;
  int first_after;  ///< which of all eight requests wins afterwards
};

class I8259Ocw2 : public I8259Test, public testing::WithParamInterface<Ocw2Row> {};

TEST_P(I8259Ocw2, EndsAndRotates) {
  for (const unsigned pin : {5u, 3u}) {
    pulse(pin);
    chip.acknowledge();
  }
  ASSERT_EQ(isr(), 0x28);
  chip.write(0, GetParam().value);
  EXPECT_EQ(isr(), GetParam().isr_after);
  chip.write(0, 0x63);
  chip.write(0, 0x65);
  for (unsigned pin = 0; pin < 8; ++pin) pulse(pin);
  EXPECT_EQ(chip.acknowledge(), GetParam().first_after);
}

INSTANTIATE_TEST_SUITE_P(Table, I8259Ocw2,
                         testing::Values(Ocw2Row{0x20, 0x20, 0},   // non-specific EOI
                                         Ocw2Row{0x65, 0x08, 0},   // specific EOI
                                         Ocw2Row{0xA0, 0x20, 4},   // rotate on non-specific EOI
                                         Ocw2Row{0xE5, 0x08, 6},   // rotate on specific EOI
                                         Ocw2Row{0xC2, 0x28, 3},   // set priority
                                         Ocw2Row{0x40, 0x28, 0},   // no operation
                                         Ocw2Row{0x80, 0x28, 0},   // rotate in AEOI mode: set
                                         Ocw2Row{0x00, 0x28, 0}),  // and clear
                         [](const auto& info) { return "Ocw2_" + std::to_string(info.param.value); });

TEST_F(I8259Test, AutoEoiLeavesNothingInService) {
  initialize(0x03);
  pulse(4);
  EXPECT_EQ(chip.acknowledge(), 4);
  EXPECT_EQ(isr(), 0);
  pulse(6);
  EXPECT_TRUE(chip.output());
}

TEST_F(I8259Test, AutoEoiRotatesWhenAsked) {
  initialize(0x03);
  chip.write(0, 0x80);
  pulse(4);
  chip.acknowledge();
  pulse(4);
  pulse(5);
  EXPECT_EQ(chip.acknowledge(), 5);
  chip.write(0, 0x00);
  pulse(7);
  EXPECT_EQ(chip.acknowledge(), 7);
  pulse(7);
  pulse(6);
  EXPECT_EQ(chip.acknowledge(), 6);  // 5 is still the lowest
}

TEST_F(I8259Test, SpecialMaskModeEnablesAllThatIsNotMasked) {
  pulse(2);
  chip.acknowledge();
  chip.write(1, 0x04);
  pulse(5);
  EXPECT_FALSE(chip.output());
  chip.write(0, 0x68);
  EXPECT_TRUE(chip.output());
  EXPECT_EQ(chip.acknowledge(), 5);
  chip.write(0, 0x20);  // non-specific EOI does not touch the masked level
  EXPECT_EQ(isr(), 0x04);
  chip.write(0, 0x48);
  pulse(5);
  EXPECT_FALSE(chip.output());
}

TEST_F(I8259Test, PollIsAnAcknowledgeByReading) {
  chip.write(0, 0x0C);
  EXPECT_EQ(chip.read(0), 0x00);
  pulse(6);
  chip.write(0, 0x0C);
  EXPECT_EQ(chip.read(0), 0x86);
  EXPECT_EQ(isr(), 0x40);
  EXPECT_FALSE(chip.output());
}

TEST_F(I8259Test, StatusReadRemembersItsRegister) {
  pulse(1);
  chip.acknowledge();
  pulse(7);
  EXPECT_EQ(isr(), 0x02);
  EXPECT_EQ(chip.read(0), 0x02);
  EXPECT_EQ(irr(), 0x80);
  EXPECT_EQ(chip.read(0), 0x80);
}

TEST_F(I8259Test, ElcrKeepsToItsMask) {
  I8259 master(0xF8);
  master.set_elcr(0xFF);
  EXPECT_EQ(master.elcr(), 0xF8);
}

}  // namespace
}  // namespace doppel::irq
