#include "bus/pci_bus.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

namespace doppel::bus {
namespace {

class Function : public PciFunction {
 public:
  explicit Function(std::string name)
      : PciFunction({.vendor_id = 0x1234, .device_id = 0x5678, .uses_intx = true}), name_(std::move(name)) {
    add_bar(0, {.kind = BarKind::Memory32, .size = 0x1000});
    add_bar(1, {.kind = BarKind::Io, .size = 0x20});
  }
  std::string_view name() const override { return name_; }
  std::uint64_t bar_read(unsigned bar, std::uint64_t offset, unsigned) override { return bar * 0x1000 + offset; }
  void bar_write(unsigned bar, std::uint64_t offset, unsigned, std::uint64_t value) override {
    writes.push_back({bar, offset, value});
  }
  void interrupt(bool asserted) {
    const std::lock_guard guard(lock());
    set_intx(asserted);
  }

  std::vector<std::array<std::uint64_t, 3>> writes;

 private:
  std::string name_;
};

class PciBusTest : public testing::Test {
 protected:
  PciBusTest() {
    bus.attach(first, 1);
    bus.attach(second, 9);
    bus.assign_resources({0xC000'0000, 0xC001'0000, 0xC000, 0x1'0000, 16});
  }
  std::array<bool, PciBus::kLines> level{};
  PciBus bus{{.message = [](std::uint64_t, std::uint32_t) {},
              .intx = [this](unsigned line, bool high) { level.at(line) = high; }}};
  Function first{"first"}, second{"second"};
  PciBus::Window memory{bus, 0xC000'0000, false};
  PciBus::Window io{bus, 0xC000, true};
  PciBus::Ecam ecam{bus};
};

TEST_F(PciBusTest, AssignsAddressesAndInterruptLines) {
  EXPECT_EQ(first.bar_base(0), 0xC000'0000u);
  EXPECT_EQ(second.bar_base(0), 0xC000'1000u);
  EXPECT_EQ(second.bar_base(1), 0xC020u);
  EXPECT_EQ(bus.config_read(9 << 15 | 0x3C, 1), 17u);
  EXPECT_EQ(bus.config_read(9 << 15 | 0x04, 2), 3u) << "I/O and memory decoding";
}

TEST_F(PciBusTest, FindsWhatABarDecodes) {
  EXPECT_EQ(memory.read(0x1010, 4), 0x10u);
  EXPECT_EQ(io.read(0x24, 1), 0x1004u);
  EXPECT_EQ(memory.read(0x2000, 4), 0xFFFF'FFFFu);
  memory.write(0xFF8, 8, 7);
  ASSERT_EQ(first.writes.size(), 1u);
  EXPECT_EQ(memory.read(0xFFC, 8), ~std::uint64_t{0}) << "over the end";
}

TEST_F(PciBusTest, ABarThatMovesIsFoundAtItsNewPlaceOnly) {
  bus.config_write(1 << 15 | 0x10, 4, 0xC000'8000);
  EXPECT_EQ(memory.read(0x8004, 4), 4u);
  EXPECT_EQ(memory.read(0x0004, 4), 0xFFFF'FFFFu);
  bus.config_write(1 << 15 | 0x04, 2, 0);
  EXPECT_EQ(memory.read(0x8004, 4), 0xFFFF'FFFFu);
}

TEST_F(PciBusTest, ConfigurationSpaceIsThereByEcam) {
  EXPECT_EQ(ecam.read(1 << 15, 4), 0x5678'1234u);
  EXPECT_EQ(ecam.read((1 << 15) + 2, 2), 0x5678u);
  EXPECT_EQ(ecam.read(1 << 15, 8) >> 32, 3u);
  EXPECT_EQ(ecam.read(2 << 15, 4), 0xFFFF'FFFFu) << "no device";
  EXPECT_EQ(ecam.read(1 << 15 | 1 << 12, 4), 0xFFFF'FFFFu) << "no second function";
  EXPECT_EQ(ecam.read((1 << 15) + 0x100, 4), 0u) << "no extended capability";
  ecam.write((1 << 15) + 0x10, 4, 0xFFFF'FFFF);
  EXPECT_EQ(ecam.read((1 << 15) + 0x10, 4), 0xFFFF'F000u);
}

TEST_F(PciBusTest, SharedInterruptLinesStayHighUntilNobodyDrivesThem) {
  first.interrupt(true);
  EXPECT_TRUE(level[1]);
  second.interrupt(true);  // slot 9: line 1 as well
  first.interrupt(false);
  EXPECT_TRUE(level[1]);
  bus.config_write(9 << 15 | 0x04, 2, pci_command::kInterruptDisable);
  EXPECT_FALSE(level[1]);
  EXPECT_EQ(bus.config_read(9 << 15 | 0x06, 2) & 8u, 8u) << "pending all the same";
  bus.config_write(9 << 15 | 0x04, 2, 0);
  EXPECT_TRUE(level[1]);
  second.reset(ResetKind::Warm);
  EXPECT_FALSE(level[1]);
}

}  // namespace
}  // namespace doppel::bus
