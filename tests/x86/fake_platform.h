#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "memory/guest_memory.h"
#include "time/vm_clock.h"
#include "x86/cpu.h"

namespace doppel::x86::test {

/// A platform of a test's own making: ports and MMIO remember what was written, interrupts are those queued.
class FakeIo : public CpuIo {
 public:
  struct Transfer {
    std::uint64_t address;
    unsigned size;
    std::uint64_t value;
    bool operator==(const Transfer&) const = default;
  };
  std::vector<Transfer> port_writes, mmio_writes;
  std::vector<std::pair<std::uint64_t, unsigned>> mmio_reads;
  std::map<std::uint16_t, std::uint32_t> port_values;  ///< what reads return; all ones where absent
  std::map<std::uint64_t, std::uint8_t> mmio_bytes;    ///< what reads return; 0xFF where absent
  std::deque<std::uint8_t> interrupts;
  std::map<std::uint32_t, std::uint64_t> apic_msrs;
  std::uint8_t task_priority = 0;
  bool ferr = false;
  unsigned local_apic_resets = 0;
  std::uint64_t tsc_offset = 0;
  std::int64_t wall_clock = 0;
  unsigned id = 0;

  std::uint32_t port_in(std::uint16_t port, unsigned size) override {
    const auto found = port_values.find(port);
    const std::uint32_t value = found == port_values.end() ? 0xFFFF'FFFF : found->second;
    return value & static_cast<std::uint32_t>(low_mask(size * 8));
  }
  void port_out(std::uint16_t port, unsigned size, std::uint32_t value) override {
    port_writes.push_back({port, size, value});
  }
  std::uint64_t mmio_read(std::uint64_t address, unsigned size) override {
    mmio_reads.emplace_back(address, size);
    std::uint64_t value = 0;
    for (unsigned i = 0; i < size; ++i) {
      const auto found = mmio_bytes.find(address + i);
      value |= std::uint64_t{found == mmio_bytes.end() ? std::uint8_t{0xFF} : found->second} << (8 * i);
    }
    return value;
  }
  void mmio_write(std::uint64_t address, unsigned size, std::uint64_t value) override {
    mmio_writes.push_back({address, size, value});
  }
  bool interrupt_pending() override { return !interrupts.empty(); }
  std::uint8_t acknowledge_interrupt() override {
    const std::uint8_t vector = interrupts.front();
    interrupts.pop_front();
    return vector;
  }
  std::uint8_t cr8() override { return task_priority; }
  void set_cr8(std::uint8_t value) override { task_priority = value; }
  bool read_apic_msr(std::uint32_t msr, std::uint64_t& value) override {
    const auto found = apic_msrs.find(msr);
    if (found == apic_msrs.end()) return false;
    value = found->second;
    return true;
  }
  bool write_apic_msr(std::uint32_t msr, std::uint64_t value) override {
    const auto found = apic_msrs.find(msr);
    if (found == apic_msrs.end()) return false;
    found->second = value;
    return true;
  }
  void tsc_offset_changed(std::uint64_t offset) override { tsc_offset = offset; }
  void reset_local_apic() override { ++local_apic_resets; }
  void set_ferr(bool high) override { ferr = high; }
  std::int64_t wall_clock_base() override { return wall_clock; }
  unsigned apic_id() const override { return id; }
};

/// One processor with 16 MiB of RAM and nothing else.
class CpuTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kRamSize = 16 << 20;

  std::unique_ptr<memory::GuestMemory> ram = memory::GuestMemory::create(kRamSize).value();
  memory::GuestMemory& memory = *ram;
  FakeIo io;
  time::VmClock clock;
  CpuidModel cpuid = CpuidModel::for_host(1);
  Attention attention;
  Cpu cpu{CpuPorts{memory, io, clock, cpuid, attention}};

  /// What physical memory holds.
  template <class T>
  T peek_physical(memory::GuestPhysical address) {
    T value{};
    EXPECT_TRUE(memory.read_value(address, value));
    return value;
  }
  template <class T>
  void poke_physical(memory::GuestPhysical address, T value) {
    EXPECT_TRUE(memory.write_value(address, value));
  }

  /// The fault that `action` raises; vector kNoFault when it raises none.
  static constexpr std::uint8_t kNoFault = 0xFF;
  template <class Action>
  static Fault fault_of(Action action) {
    try {
      action();
    } catch (const Fault& fault) {
      return fault;
    }
    return Fault{kNoFault};
  }
  /// The error code is -1 where there is none.
  static std::pair<int, std::int64_t> vector_and_code(const Fault& fault) {
    return {fault.vector, fault.has_error_code ? std::int64_t{fault.error_code} : -1};
  }
};

/// EXPECT that an action raises an exception, with an error code or without.
#define EXPECT_FAULT(expected_vector, statement) \
  EXPECT_EQ(static_cast<int>(fault_of([&] { statement; }).vector), int{expected_vector}) << "by " #statement
#define EXPECT_FAULT_CODE(expected_vector, expected_code, statement)                     \
  EXPECT_EQ(vector_and_code(fault_of([&] { statement; })),                               \
            (std::pair{int{expected_vector}, static_cast<std::int64_t>(expected_code)})) \
      << "by " #statement

}  // namespace doppel::x86::test
