#include "machine/machine_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "x86/attention.h"

namespace doppel::machine {
namespace {

class Sample : public bus::Device {
 public:
  explicit Sample(std::string name) : name_(std::move(name)) {}
  std::string_view name() const override { return name_; }
  void reset(bus::ResetKind) override { value = 0; }
  void describe(state::Visitor& v) override {
    v.field(1, "value", value);
    v.require(value < 100, "too much");
    v.on_loaded([this] { ++loaded; });
  }

  std::uint32_t value = 0;
  int loaded = 0;

 private:
  const std::string name_;
};

class MachineStateTest : public testing::Test {
 protected:
  Sample uart_{"uart"}, disk_{"disk0"};
  const std::vector<bus::Device*> devices_{&uart_, &disk_};
  std::vector<ProcessorState> processors_{2};
};

TEST_F(MachineStateTest, EveryoneGetsTheirOwnBack) {
  uart_.value = 1;
  disk_.value = 2;
  processors_[1].cpu.rip = 0x1234;
  processors_[1].attention = x86::Attention::kSipi;
  processors_[1].sipi_vector = 9;
  const std::vector<std::byte> saved = save_components(processors_, devices_);
  uart_.value = disk_.value = 50;
  std::vector<ProcessorState> loaded(2);
  // The order of devices is nobody's promise.
  ASSERT_TRUE(load_components(saved, loaded, {&disk_, &uart_}));
  EXPECT_EQ(uart_.value, 1U);
  EXPECT_EQ(disk_.value, 2U);
  EXPECT_EQ(uart_.loaded, 1);
  EXPECT_EQ(loaded[1].cpu.rip, 0x1234U);
  EXPECT_EQ(loaded[1].attention, x86::Attention::kSipi);
  EXPECT_EQ(loaded[1].sipi_vector, 9);
}

TEST_F(MachineStateTest, WhatIsRefusedChangesNobody) {
  uart_.value = 7;
  disk_.value = 100;
  const std::vector<std::byte> bad = save_components(processors_, devices_);
  uart_.value = 1;
  disk_.value = 2;
  const Result<void> loaded = load_components(bad, processors_, devices_);
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().message, testing::HasSubstr("too much"));
  EXPECT_EQ(uart_.value, 1U);
  EXPECT_EQ(uart_.loaded, 0);

  std::vector<ProcessorState> one(1);
  disk_.value = 3;
  EXPECT_FALSE(load_components(save_components(processors_, devices_), one, devices_)) << "a processor too many";
}

TEST_F(MachineStateTest, ProcessorsRefuseWhatTheHostWould) {
  processors_[0].cpu.fpu.mxcsr = 0x1'1F80;
  EXPECT_FALSE(load_components(save_components(processors_, devices_), processors_, devices_));
  processors_[0].cpu.fpu.mxcsr = 0x1F80;
  processors_[0].attention = x86::Attention::kStop;
  EXPECT_FALSE(load_components(save_components(processors_, devices_), processors_, devices_));
}

TEST(ComponentNumber, IsOnesOwn) {
  std::set<std::uint32_t> numbers;
  std::vector<std::string> names{"pic",     "ioapic",    "pit",           "rtc",      "hpet",  "acpi_pm",   "i8042",
                                 "port92",  "vm_gen_id", "reset_control", "pci_host", "vsock", "entropy",   "balloon",
                                 "isa_dma", "console",   "debug_console", "share0",   "tap0",  "pci_bridge"};
  for (int i = 0; i < 256; ++i) {
    for (const char* prefix : {"cpu", "lapic", "local_apic", "com", "disk", "net", "share"}) {
      names.push_back(prefix + std::to_string(i));
    }
  }
  const std::set<std::string> different(names.begin(), names.end());
  for (const std::string& name : different) EXPECT_TRUE(numbers.insert(component_number(name)).second) << name;
  EXPECT_EQ(component_number("pit"), component_number("pit"));
  EXPECT_EQ(component_number("a"), 0xE40C'292CU) << "FNV-1a's own example";
}

}  // namespace
}  // namespace doppel::machine
