#include "irq/pic.h"

#include <gtest/gtest.h>

#include "devices/line_probe.h"
#include "state/contract.h"

namespace doppel::irq {
namespace {

class PicTest : public testing::Test {
 protected:
  PicTest() { pic.connect_intr(probe.line(0)); }

  void initialize(std::uint8_t master_icw4 = 0x01) {
    for (const auto& [chip, vector, icw3, icw4] :
         {std::tuple{Pic::kMaster, 0x20, 0x04, int{master_icw4}}, std::tuple{Pic::kSlave, 0x28, 0x02, 0x01}}) {
      pic.write(chip, 0, 0x11);
      pic.write(chip, 1, static_cast<std::uint8_t>(vector));
      pic.write(chip, 1, static_cast<std::uint8_t>(icw3));
      pic.write(chip, 1, static_cast<std::uint8_t>(icw4));
    }
  }
  void pulse(unsigned irq) {
    pic.set_input(irq, true);
    pic.set_input(irq, false);
  }
  bool intr() const { return probe.level(0); }

  test::LineProbe probe;
  Pic pic;
};

TEST_F(PicTest, SlaveInterruptsThroughTheMaster) {
  initialize();
  pulse(12);
  EXPECT_TRUE(intr());
  EXPECT_EQ(pic.acknowledge(), 0x2C);
  EXPECT_FALSE(intr());
  pic.write(Pic::kMaster, 0, 0x0B);
  pic.write(Pic::kSlave, 0, 0x0B);
  EXPECT_EQ(pic.read(Pic::kMaster, 0), 0x04);
  EXPECT_EQ(pic.read(Pic::kSlave, 0), 0x10);
}

TEST_F(PicTest, SlaveHasThePriorityOfTheCascade) {
  initialize();
  pulse(3);
  pulse(15);
  pulse(8);
  pulse(1);
  EXPECT_EQ(pic.acknowledge(), 0x21);
  pic.write(Pic::kMaster, 0, 0x20);
  EXPECT_EQ(pic.acknowledge(), 0x28);
  EXPECT_FALSE(intr());  // 15 waits for the slave's EOI, 3 for the master's
  pic.write(Pic::kSlave, 0, 0x20);
  EXPECT_FALSE(intr());
  pic.write(Pic::kMaster, 0, 0x20);
  EXPECT_TRUE(intr());
  EXPECT_EQ(pic.acknowledge(), 0x2F);
}

TEST_F(PicTest, SpecialFullyNestedModeLetsTheSlaveInterruptItself) {
  initialize(0x11);
  pulse(12);
  EXPECT_EQ(pic.acknowledge(), 0x2C);
  pulse(9);
  EXPECT_TRUE(intr());
  EXPECT_EQ(pic.acknowledge(), 0x29);
}

TEST_F(PicTest, SpuriousInterruptsAre7And15AndNotInService) {
  initialize();
  pic.set_elcr(Pic::kMaster, 0x20);
  pic.set_elcr(Pic::kSlave, 0x08);
  EXPECT_EQ(pic.acknowledge(), 0x27);
  pic.write(Pic::kMaster, 0, 0x0B);
  EXPECT_EQ(pic.read(Pic::kMaster, 0), 0x00);
  // A slave that withdraws its request takes the cascade's with it.
  pic.set_input(11, true);
  EXPECT_TRUE(intr());
  pic.set_input(11, false);
  EXPECT_FALSE(intr());
}

TEST_F(PicTest, MaskedSlaveInterruptDoesNotReachTheProcessor) {
  initialize();
  pulse(10);
  EXPECT_TRUE(intr());
  pic.write(Pic::kSlave, 1, 0xFF);
  EXPECT_FALSE(intr());
}

TEST_F(PicTest, CascadeIsNoInputOfTheBoard) {
  initialize();
  pulse(2);
  EXPECT_FALSE(intr());
}

TEST_F(PicTest, ElcrLeavesTheTimerKeyboardClockAndCoprocessorEdgeSensitive) {
  pic.set_elcr(Pic::kMaster, 0xFF);
  pic.set_elcr(Pic::kSlave, 0xFF);
  EXPECT_EQ(pic.elcr(Pic::kMaster), 0xF8);
  EXPECT_EQ(pic.elcr(Pic::kSlave), 0xDE);
}

TEST_F(PicTest, LevelPendingAtSaveIsThereAfterRestore) {
  initialize();
  pic.set_elcr(Pic::kSlave, 0x08);
  pic.set_input(11, true);
  const auto saved = state::save(test::describe_of(pic));

  Pic other;
  test::LineProbe other_probe;
  other.connect_intr(other_probe.line(0));
  ASSERT_TRUE(state::load(saved, test::describe_of(other)).ok());
  EXPECT_TRUE(other_probe.level(0));
  EXPECT_EQ(other.acknowledge(), 0x2B);
}

TEST_F(PicTest, Contract) {
  test::expect_contract(
      pic, [this] { pic.reset(); },
      [this] {
        initialize();
        pic.write(Pic::kMaster, 1, 0x40);
        pic.set_elcr(Pic::kSlave, 0x08);
        pulse(4);
        pulse(12);
        (void)pic.acknowledge();
        pic.write(Pic::kMaster, 0, 0xC3);
      });
  test::expect_schema("pic", pic);
}

}  // namespace
}  // namespace doppel::irq
