#include "devices/i8042.h"

#include <gtest/gtest.h>

#include "devices/line_probe.h"
#include "state/contract.h"

namespace doppel::devices {
namespace {

class I8042Test : public testing::Test {
 protected:
  I8042Test() {
    chip.connect_irq(probe.line(1));
    chip.set_on_a20([this](bool on) { a20 = on; });
    chip.set_on_reset([this] { ++resets; });
  }

  std::uint8_t status() { return static_cast<std::uint8_t>(chip.command_port().read(0, 1)); }
  std::uint8_t data() { return static_cast<std::uint8_t>(chip.data_port().read(0, 1)); }
  void command(std::uint8_t value) { chip.command_port().write(0, 1, value); }
  void data(std::uint8_t value) { chip.data_port().write(0, 1, value); }
  std::vector<int> drain() {
    std::vector<int> bytes;
    while ((status() & 0x01) != 0) bytes.push_back(data());
    return bytes;
  }
  void without_translation() {
    command(0x60);
    data(0x25);
  }
  using Bytes = std::vector<int>;

  test::LineProbe probe;
  bool a20 = true;
  int resets = 0;
  I8042 chip;
};

TEST_F(I8042Test, ControllerAnswers) {
  const std::tuple<std::uint8_t, std::uint8_t, const char*> table[] = {
      {0xAA, 0x55, "self test"},    {0xAB, 0x00, "keyboard port test"}, {0xA9, 0x01, "auxiliary port test: no device"},
      {0x20, 0x65, "command byte"}, {0xC0, 0x80, "input port"},         {0xD0, 0x03, "output port"}};
  for (const auto& [value, answer, what] : table) {
    command(value);
    EXPECT_EQ(drain(), Bytes{answer}) << what;
  }
}

TEST_F(I8042Test, Status) {
  EXPECT_EQ(status(), 0x14);
  command(0xAA);
  EXPECT_EQ(status(), 0x1D);
  data();
  data(0xF4);
  EXPECT_EQ(status(), 0x15);
}

TEST_F(I8042Test, CommandByteIsKept) {
  command(0x60);
  data(0x74);
  command(0x20);
  EXPECT_EQ(drain(), Bytes{0x74});
  command(0xA8);
  command(0xAE);
  command(0x20);
  EXPECT_EQ(drain(), Bytes{0x44});
  command(0xA7);
  command(0xAD);
  command(0x20);
  EXPECT_EQ(drain(), Bytes{0x74});
}

/// Linux' check for an auxiliary port: the answer must come, and must not claim to be from there.
TEST_F(I8042Test, AuxiliaryLoopFailsWithoutMakingTheGuestWait) {
  command(0xD3);
  data(0x5A);
  EXPECT_EQ(status() & 0x21, 0x01);
  EXPECT_NE(data(), 0x5A);
  command(0xD4);
  data(0xF2);
  EXPECT_EQ(status() & 0x21, 0x01);
}

TEST_F(I8042Test, KeyboardBufferCommandLoopsBack) {
  command(0xD2);
  data(0x5A);
  EXPECT_EQ(drain(), Bytes{0x5A});
}

TEST_F(I8042Test, KeyboardAnswers) {
  without_translation();
  const std::pair<Bytes, Bytes> table[] = {{{0xFF}, {0xFA, 0xAA}},
                                           {{0xF2}, {0xFA, 0xAB, 0x83}},
                                           {{0xEE}, {0xEE}},
                                           {{0xED, 0x07}, {0xFA, 0xFA}},
                                           {{0xF3, 0x20}, {0xFA, 0xFA}},
                                           {{0xF4}, {0xFA}},
                                           {{0xF5}, {0xFA}},
                                           {{0xF6}, {0xFA}},
                                           {{0xF0, 0x00}, {0xFA, 0xFA, 0x02}},
                                           {{0xF0, 0x02}, {0xFA, 0xFA}},
                                           {{0xF0, 0x03}, {0xFA, 0xFE}},
                                           {{0x00}, {0xFE}},
                                           {{0xED, 0xF4}, {0xFA, 0xFA}}};
  for (const auto& [sent, answer] : table) {
    for (const int byte : sent) data(static_cast<std::uint8_t>(byte));
    EXPECT_EQ(drain(), answer) << std::hex << sent[0];
  }
}

TEST_F(I8042Test, EachByteIsAnInterrupt) {
  data(0xF2);
  EXPECT_TRUE(probe.level(1));
  EXPECT_EQ(probe.take_edges(1), 1u);
  data();
  EXPECT_EQ(probe.take_edges(1), 1u);
  drain();
  EXPECT_FALSE(probe.level(1));
  command(0x60);
  data(0x64);
  data(0xF4);
  EXPECT_FALSE(probe.level(1)) << "switched off in the command byte";
  command(0x60);
  data(0x65);
  EXPECT_TRUE(probe.level(1));
}

TEST_F(I8042Test, DisabledKeyboardKeepsItsBytes) {
  command(0xAD);
  EXPECT_TRUE(chip.send_ctrl_alt_del());
  EXPECT_EQ(drain(), Bytes{});
  command(0xAE);
  EXPECT_EQ(drain().size(), 8u);
}

TEST_F(I8042Test, CtrlAltDelInBothScanCodeSets) {
  EXPECT_TRUE(chip.send_ctrl_alt_del());
  EXPECT_EQ(drain(), (Bytes{0x1D, 0x38, 0xE0, 0x53, 0xE0, 0xD3, 0xB8, 0x9D}));
  without_translation();
  EXPECT_TRUE(chip.send_ctrl_alt_del());
  EXPECT_EQ(drain(), (Bytes{0x14, 0x11, 0xE0, 0x71, 0xE0, 0xF0, 0x71, 0xF0, 0x11, 0xF0, 0x14}));
}

TEST_F(I8042Test, FullOrDisabledKeyboardRefusesKeys) {
  data(0xF5);
  EXPECT_FALSE(chip.send_ctrl_alt_del());
  data(0xF4);
  drain();
  command(0xAD);  // nothing leaves the keyboard
  EXPECT_TRUE(chip.send_ctrl_alt_del());
  EXPECT_TRUE(chip.send_ctrl_alt_del());
  EXPECT_FALSE(chip.send_ctrl_alt_del());
}

TEST_F(I8042Test, A20AndReset) {
  command(0xD1);
  data(0x01);
  EXPECT_FALSE(a20);
  command(0xD0);
  EXPECT_EQ(drain(), Bytes{0x01});
  command(0xDF);
  EXPECT_TRUE(a20);
  EXPECT_EQ(resets, 0);
  command(0xFE);
  EXPECT_EQ(resets, 1);
  command(0xFF);
  EXPECT_EQ(resets, 1);
  command(0xD1);
  data(0x02);
  EXPECT_EQ(resets, 2);
}

TEST_F(I8042Test, ByteInTheBufferAtSaveInterruptsAfterRestore) {
  data(0xF2);
  data();
  const auto saved = state::save(test::describe_of(chip));
  chip.reset(bus::ResetKind::Cold);
  ASSERT_FALSE(probe.level(1));
  ASSERT_TRUE(state::load(saved, test::describe_of(chip)).ok());
  EXPECT_TRUE(probe.level(1));
  EXPECT_EQ(drain(), (Bytes{0xAB, 0x41}));
}

TEST_F(I8042Test, Contract) {
  test::expect_contract(chip, [this] {
    data(0xED);
    data(0x02);
    data(0xF3);
    data(0x11);
    command(0xDD);
    command(0x60);
    data(0x61);
    command(0xAA);
    command(0xAA);
    data(0xF5);
    data(0xF3);
    command(0xD1);
  });
  test::expect_schema("i8042", chip);
}

}  // namespace
}  // namespace doppel::devices
