#include "irq/local_apic.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "devices/manual_time.h"
#include "irq/message_probe.h"
#include "state/contract.h"

namespace doppel::irq {
namespace {

struct Signalled {
  ApicSignal signal;
  std::uint8_t vector;
  bool operator==(const Signalled&) const = default;
};

/// A board of `count` local APICs, software-enabled.
class LocalApicTest : public testing::Test {
 protected:
  LocalApicTest() {
    for (unsigned i = 0; i < kCount; ++i) {
      auto apic = std::make_unique<LocalApic>(LocalApic::Config{.apic_id = i, .bootstrap = i == 0}, bus, time.clock,
                                              time.timers);
      apic->set_on_signal([this, i](ApicSignal signal, std::uint8_t vector) {
        signals[i].push_back({signal, vector});
      });
      apic->set_ext_int_acknowledge([this] { return ext_int_vector; });
      apics.push_back(std::move(apic));
      write(i, kSvr, 0x1FF);
    }
    clear();
  }

  enum Offset : std::uint64_t {
    kId = 0x20,
    kTpr = 0x80,
    kPpr = 0xA0,
    kEoi = 0xB0,
    kLdr = 0xD0,
    kDfr = 0xE0,
    kSvr = 0xF0,
    kIsr = 0x100,
    kTmr = 0x180,
    kIrr = 0x200,
    kEsr = 0x280,
    kIcr = 0x300,
    kIcrHigh = 0x310,
    kLvtTimer = 0x320,
    kLvtLint0 = 0x350,
    kLvtLint1 = 0x360,
    kLvtError = 0x370,
    kInitial = 0x380,
    kCurrent = 0x390,
    kDivide = 0x3E0,
  };

  std::uint32_t read(unsigned i, std::uint64_t offset) { return apics[i]->read(offset, 4); }
  void write(unsigned i, std::uint64_t offset, std::uint32_t value) { apics[i]->write(offset, 4, value); }
  bool write_msr(unsigned i, std::uint32_t msr, std::uint64_t value) { return apics[i]->write_msr(msr, value); }
  std::uint64_t read_msr(unsigned i, std::uint32_t msr) {
    std::uint64_t value = 0;
    EXPECT_TRUE(apics[i]->read_msr(msr, value));
    return value;
  }
  bool msr_exists(unsigned i, std::uint32_t msr) {
    std::uint64_t value = 0;
    return apics[i]->read_msr(msr, value);
  }
  void enter_x2apic(unsigned i) { ASSERT_TRUE(write_msr(i, 0x1B, read_msr(i, 0x1B) | 1 << 10)); }
  void ipi(unsigned from, std::uint32_t low, std::uint8_t destination = 0) {
    write(from, kIcrHigh, std::uint32_t{destination} << 24);
    write(from, kIcr, low);
  }
  void send(unsigned i, std::uint8_t vector, TriggerMode trigger_mode = TriggerMode::Edge) {
    apics[i]->accept({.vector = vector, .trigger_mode = trigger_mode});
  }
  bool requested(unsigned i, std::uint8_t vector) {
    return (read(i, kIrr + vector / 32 * 16u) >> (vector % 32) & 1) != 0;
  }
  bool in_service(unsigned i, std::uint8_t vector) {
    return (read(i, kIsr + vector / 32 * 16u) >> (vector % 32) & 1) != 0;
  }
  /// Which local APICs have the vector in their IRR, as bits.
  unsigned receivers(std::uint8_t vector) {
    unsigned mask = 0;
    for (unsigned i = 0; i < kCount; ++i) mask |= apics[i]->pending() && requested(i, vector) ? 1u << i : 0;
    return mask;
  }
  void clear() {
    for (auto& list : signals) list.clear();
  }

  static constexpr unsigned kCount = 4;
  test::ManualTime time;
  ApicBus bus;
  std::vector<std::unique_ptr<LocalApic>> apics;
  std::array<std::vector<Signalled>, kCount> signals;
  std::uint8_t ext_int_vector = 0x77;
};

struct Eois : EoiSink {
  void end_of_interrupt(std::uint8_t vector) override { vectors.push_back(vector); }
  std::vector<std::uint8_t> vectors;
};

// --- Registers ---

TEST_F(LocalApicTest, RegistersAfterReset) {
  apics[1]->reset();
  const std::pair<std::uint64_t, std::uint32_t> table[] = {
      {kId, 0x0100'0000},
      {0x30, 0x0005'0014},
      {kTpr, 0},
      {0x90, 0},
      {kPpr, 0},
      {kLdr, 0},
      {kDfr, 0xFFFF'FFFF},
      {kSvr, 0xFF},
      {kEsr, 0},
      {kIcr, 0},
      {kIcrHigh, 0},
      {kLvtTimer, 0x10000},
      {0x330, 0x10000},
      {0x340, 0x10000},
      {kLvtLint0, 0x10000},
      {kLvtLint1, 0x10000},
      {kLvtError, 0x10000},
      {kInitial, 0},
      {kCurrent, 0},
      {kDivide, 0},
  };
  for (const auto& [offset, value] : table) EXPECT_EQ(read(1, offset), value) << std::hex << offset;
  for (std::uint64_t offset = 0x100; offset < 0x280; offset += 16) EXPECT_EQ(read(1, offset), 0u);
  EXPECT_EQ(read_msr(0, 0x1B), 0xFEE0'0900u);
  EXPECT_EQ(read_msr(1, 0x1B), 0xFEE0'0800u);
}

TEST_F(LocalApicTest, OnlyWritableBitsChange) {
  const std::pair<std::uint64_t, std::uint32_t> table[] = {
      {kId, 0xFF00'0000},      {kTpr, 0xFF},         {kLdr, 0xFF00'0000}, {kDfr, 0xFFFF'FFFF}, {kSvr, 0x1FF},
      {kIcrHigh, 0xFF00'0000}, {kLvtTimer, 0x700FF}, {0x330, 0x107FF},    {0x340, 0x107FF},    {kLvtLint0, 0x1A7FF},
      {kLvtLint1, 0x1A7FF},    {kLvtError, 0x100FF}, {kDivide, 0xB},
  };
  for (const auto& [offset, value] : table) {
    write(0, offset, 0xFFFF'FFFF);
    EXPECT_EQ(read(0, offset), value) << std::hex << offset;
  }
  write(0, kDfr, 0);
  EXPECT_EQ(read(0, kDfr), 0x0FFF'FFFFu);
}

TEST_F(LocalApicTest, PartialAccesses) {
  write(0, kTpr, 0x35);
  EXPECT_EQ(apics[0]->read(kTpr, 1), 0x35u);
  EXPECT_EQ(apics[0]->read(0x30 + 2, 2), 0x0005u);
  EXPECT_EQ(apics[0]->read(kTpr + 4, 4), 0u);
  apics[0]->write(kTpr, 1, 0x77);
  apics[0]->write(kTpr + 4, 4, 0x77);
  EXPECT_EQ(read(0, kTpr), 0x35u);
}

TEST_F(LocalApicTest, PageMovesWithApicBase) {
  EXPECT_TRUE(apics[0]->maps(0xFEE0'0000));
  EXPECT_TRUE(apics[0]->maps(0xFEE0'0FFF));
  EXPECT_FALSE(apics[0]->maps(0xFEE0'1000));
  ASSERT_TRUE(write_msr(0, 0x1B, 0x1234'5000 | 0x900));
  EXPECT_TRUE(apics[0]->maps(0x1234'5020));
  EXPECT_FALSE(apics[0]->maps(0xFEE0'0000));
}

TEST_F(LocalApicTest, SoftwareDisableMasksTheLvtAndHoldsRequests) {
  write(0, kLvtTimer, 0x40);
  send(0, 0x50);
  write(0, kSvr, 0xFF);
  EXPECT_EQ(read(0, kLvtTimer), 0x10040u);
  write(0, kLvtTimer, 0x40);
  EXPECT_EQ(read(0, kLvtTimer), 0x10040u) << "the mask cannot be cleared";
  EXPECT_FALSE(apics[0]->pending());
  send(0, 0x60);
  EXPECT_FALSE(requested(0, 0x60));
  write(0, kSvr, 0x1FF);
  EXPECT_TRUE(apics[0]->pending());
  EXPECT_EQ(apics[0]->acknowledge(), 0x50);
}

TEST_F(LocalApicTest, ErrorsShowAfterTheEsrIsWritten) {
  write(0, kLvtError, 0xE0);
  read(0, 0x010);  // no register there
  EXPECT_EQ(read(0, kEsr), 0u);
  EXPECT_TRUE(requested(0, 0xE0));
  write(0, kEsr, 0);
  EXPECT_EQ(read(0, kEsr), 0x80u);
  write(0, kEsr, 0);
  EXPECT_EQ(read(0, kEsr), 0u);
  ipi(0, 0x0F, 1);  // illegal vector sent
  write(0, kEsr, 0);
  EXPECT_EQ(read(0, kEsr), 0x20u);
  send(0, 0x0F);  // and received
  write(0, kEsr, 0);
  EXPECT_EQ(read(0, kEsr), 0x40u);
  EXPECT_EQ(receivers(0x0F), 0u);
}

// --- Priorities ---

TEST_F(LocalApicTest, HighestVectorFirstAndEoiInOrder) {
  send(0, 0x41);
  send(0, 0x81);
  EXPECT_EQ(apics[0]->acknowledge(), 0x81);
  EXPECT_FALSE(apics[0]->pending()) << "41 is below what is in service";
  EXPECT_EQ(read(0, kPpr), 0x80u);
  send(0, 0x8F);
  EXPECT_FALSE(apics[0]->pending()) << "same class";
  send(0, 0x91);
  EXPECT_EQ(apics[0]->acknowledge(), 0x91);
  write(0, kEoi, 0);
  EXPECT_FALSE(in_service(0, 0x91));
  EXPECT_TRUE(in_service(0, 0x81));
  clear();
  write(0, kEoi, 0);
  EXPECT_EQ(signals[0], (std::vector<Signalled>{{ApicSignal::Interrupt, 0}}));
  EXPECT_EQ(apics[0]->acknowledge(), 0x8F);
}

TEST_F(LocalApicTest, TprBlocksItsClassAndBelow) {
  write(0, kTpr, 0x53);
  EXPECT_EQ(read(0, kPpr), 0x53u);
  EXPECT_EQ(apics[0]->cr8(), 5);
  send(0, 0x5F);
  EXPECT_FALSE(apics[0]->pending());
  clear();
  apics[0]->set_cr8(4);
  EXPECT_EQ(signals[0].size(), 1u);
  EXPECT_TRUE(apics[0]->pending());
  EXPECT_EQ(read(0, kTpr), 0x40u);
}

TEST_F(LocalApicTest, NothingLeftToTakeIsTheSpuriousVector) {
  write(0, kSvr, 0x1EF);
  EXPECT_EQ(apics[0]->acknowledge(), 0xEF);
  EXPECT_FALSE(in_service(0, 0xEF));
}

TEST_F(LocalApicTest, EoiOfLevelVectorsIsBroadcast) {
  Eois eois;
  bus.attach(eois);
  send(0, 0x41, TriggerMode::Level);
  send(0, 0x51);
  EXPECT_EQ(read(0, kTmr + 0x20), 0x2u);
  apics[0]->acknowledge();
  write(0, kEoi, 0);
  EXPECT_TRUE(eois.vectors.empty()) << "51 was an edge";
  apics[0]->acknowledge();
  write(0, kEoi, 0);
  EXPECT_EQ(eois.vectors, std::vector<std::uint8_t>{0x41});
  write(0, kEoi, 0);
  EXPECT_EQ(eois.vectors.size(), 1u);
}

// --- Pins ---

TEST_F(LocalApicTest, ExtIntFollowsLint0AndBeatsThePriority) {
  write(0, kTpr, 0xF0);
  write(0, kLvtLint0, 0x700);
  apics[0]->set_input(LocalApic::kLint0, true);
  EXPECT_EQ(signals[0], (std::vector<Signalled>{{ApicSignal::Interrupt, 0}}));
  EXPECT_TRUE(apics[0]->pending());
  EXPECT_EQ(apics[0]->acknowledge(), 0x77);
  EXPECT_FALSE(in_service(0, 0x77));
  apics[0]->set_input(LocalApic::kLint0, false);
  EXPECT_FALSE(apics[0]->pending());
  apics[0]->set_input(LocalApic::kLint0, true);
  write(0, kLvtLint0, 0x10700);
  EXPECT_FALSE(apics[0]->pending());
  clear();
  write(0, kLvtLint0, 0x700);
  EXPECT_EQ(signals[0].size(), 1u) << "unmasked with the line high";
}

TEST_F(LocalApicTest, Lint1IsNmiInVirtualWireMode) {
  apics[0]->reset();
  apics[0]->enter_virtual_wire_mode();
  clear();
  apics[0]->set_input(LocalApic::kLint1, true);
  apics[0]->set_input(LocalApic::kLint1, true);
  EXPECT_EQ(signals[0], (std::vector<Signalled>{{ApicSignal::Nmi, 0}}));
  apics[0]->set_input(LocalApic::kLint0, true);
  EXPECT_TRUE(apics[0]->pending());
}

TEST_F(LocalApicTest, DisabledApicLeavesThePinsToTheProcessor) {
  ASSERT_TRUE(write_msr(0, 0x1B, 0xFEE0'0000));
  apics[0]->set_input(LocalApic::kLint0, true);
  apics[0]->set_input(LocalApic::kLint1, true);
  EXPECT_EQ(signals[0], (std::vector<Signalled>{{ApicSignal::Interrupt, 0}, {ApicSignal::Nmi, 0}}));
  EXPECT_TRUE(apics[0]->pending());
  EXPECT_EQ(apics[0]->acknowledge(), 0x77);
}

TEST_F(LocalApicTest, LevelTriggeredLintSetsRemoteIrrUntilEoi) {
  write(0, kLvtLint0, 0x8045);
  apics[0]->set_input(LocalApic::kLint0, true);
  EXPECT_EQ(read(0, kLvtLint0), 0xC045u);
  apics[0]->acknowledge();
  write(0, kEoi, 0);
  EXPECT_TRUE(requested(0, 0x45)) << "the line is still high";
  apics[0]->acknowledge();
  apics[0]->set_input(LocalApic::kLint0, false);
  write(0, kEoi, 0);
  EXPECT_EQ(read(0, kLvtLint0), 0x8045u);
  EXPECT_FALSE(apics[0]->pending());
}

TEST_F(LocalApicTest, ExtIntMessageIsTakenOnce) {
  apics[0]->accept({.delivery_mode = DeliveryMode::ExtInt});
  EXPECT_TRUE(apics[0]->pending());
  EXPECT_EQ(apics[0]->acknowledge(), 0x77);
  EXPECT_FALSE(apics[0]->pending());
}

// --- Timer ---

TEST_F(LocalApicTest, TimerInterruptsWithItsVector) {
  write(0, kLvtTimer, 0x200EC);
  write(0, kDivide, 0xB);
  write(0, kInitial, 1'000'000);
  time.advance(250'000);
  EXPECT_EQ(read(0, kCurrent), 750'000u);
  clear();
  time.advance(750'000);
  EXPECT_EQ(signals[0], (std::vector<Signalled>{{ApicSignal::Interrupt, 0}}));
  EXPECT_EQ(apics[0]->acknowledge(), 0xEC);
  write(0, kEoi, 0);
  time.advance(1'000'000);
  EXPECT_EQ(apics[0]->acknowledge(), 0xEC);
}

TEST_F(LocalApicTest, TscDeadlineMsr) {
  write(0, kLvtTimer, 0x400EC);
  EXPECT_TRUE(write_msr(0, 0x6E0, 5000));
  EXPECT_EQ(read_msr(0, 0x6E0), 5000u);
  time.advance(5000);
  EXPECT_EQ(read_msr(0, 0x6E0), 0u);
  EXPECT_TRUE(requested(0, 0xEC));
}

// --- Interprocessor interrupts ---

TEST_F(LocalApicTest, PhysicalDestinationAndBroadcast) {
  ipi(0, 0x4041, 2);
  EXPECT_EQ(receivers(0x41), 0b0100u);
  ipi(0, 0x4042, 0xFF);
  EXPECT_EQ(receivers(0x42), 0b1111u);
  ipi(0, 0x4043, 9);
  EXPECT_EQ(receivers(0x43), 0u);
}

TEST_F(LocalApicTest, Shorthands) {
  ipi(1, 0x4'4041);
  EXPECT_EQ(receivers(0x41), 0b0010u);
  ipi(1, 0x8'4042);
  EXPECT_EQ(receivers(0x42), 0b1111u);
  ipi(1, 0xC'4043);
  EXPECT_EQ(receivers(0x43), 0b1101u);
}

TEST_F(LocalApicTest, LogicalFlat) {
  for (unsigned i = 0; i < kCount; ++i) write(i, kLdr, 1u << (24 + i));
  ipi(0, 0x4841, 0b0110);
  EXPECT_EQ(receivers(0x41), 0b0110u);
  ipi(0, 0x4842, 0xFF);
  EXPECT_EQ(receivers(0x42), 0b1111u);
}

TEST_F(LocalApicTest, LogicalCluster) {
  for (unsigned i = 0; i < kCount; ++i) {
    write(i, kDfr, 0x0FFF'FFFF);
    write(i, kLdr, (i / 2) << 28 | 1u << (24 + i % 2));
  }
  ipi(0, 0x4841, 0x13);
  EXPECT_EQ(receivers(0x41), 0b1100u);
  ipi(0, 0x4842, 0x02);
  EXPECT_EQ(receivers(0x42), 0b0010u);
  ipi(0, 0x4843, 0xFF);
  EXPECT_EQ(receivers(0x43), 0b1111u);
}

TEST_F(LocalApicTest, LowestPriorityGoesToOneOfTheLeastBusy) {
  for (unsigned i = 0; i < kCount; ++i) write(i, kLdr, 1u << (24 + i));
  write(0, kTpr, 0x30);
  write(1, kTpr, 0x20);
  write(2, kTpr, 0x10);
  write(3, kTpr, 0x20);
  ipi(0, 0x4941, 0xFF);
  EXPECT_EQ(receivers(0x41), 0b0100u);
  ipi(0, 0x4942, 0b1011);
  const unsigned one = receivers(0x42);
  EXPECT_TRUE(one == 0b0010u || one == 0b1000u);
  write(2, kSvr, 0xFF);
  ipi(0, 0x4943, 0b0100);
  EXPECT_EQ(receivers(0x43), 0u) << "a disabled APIC takes no part";
}

TEST_F(LocalApicTest, NmiInitAndStartUp) {
  ipi(0, 0x4400, 1);
  ipi(0, 0x4500, 1);
  ipi(0, 0x8500, 1);  // INIT level de-assert
  ipi(0, 0x4699, 1);
  EXPECT_EQ(signals[1],
            (std::vector<Signalled>{{ApicSignal::Nmi, 0}, {ApicSignal::Init, 0}, {ApicSignal::StartUp, 0x99}}));
  EXPECT_TRUE(signals[0].empty());
}

TEST_F(LocalApicTest, StartUpReachesASoftwareDisabledApic) {
  apics[3]->reset();
  ipi(0, 0xC'4608);
  EXPECT_EQ(signals[3], (std::vector<Signalled>{{ApicSignal::StartUp, 0x08}}));
}

TEST_F(LocalApicTest, InitKeepsBaseAndId) {
  write(1, kId, 0x0700'0000);
  write(1, kTpr, 0x50);
  send(1, 0x61);
  apics[1]->init();
  EXPECT_EQ(read(1, kId), 0x0700'0000u);
  EXPECT_EQ(read(1, kTpr), 0u);
  EXPECT_EQ(read(1, kSvr), 0xFFu);
  EXPECT_FALSE(requested(1, 0x61));
  enter_x2apic(1);
  apics[1]->init();
  EXPECT_EQ(read_msr(1, 0x1B), 0xFEE0'0C00u);
}

// --- x2APIC ---

TEST_F(LocalApicTest, ApicBaseTransitions) {
  constexpr std::uint64_t kDisabled = 0xFEE0'0000, kXapic = kDisabled | 0x800, kX2apic = kXapic | 0x400,
                          kInvalid = kDisabled | 0x400;
  struct Row {
    std::uint64_t from;
    std::uint64_t to;
    bool allowed;
  };
  const Row table[] = {{kXapic, kX2apic, true},   {kXapic, kDisabled, true},   {kXapic, kInvalid, false},
                       {kX2apic, kXapic, false},  {kX2apic, kDisabled, true},  {kX2apic, kInvalid, false},
                       {kDisabled, kXapic, true}, {kDisabled, kX2apic, false}, {kDisabled, kInvalid, false}};
  for (const Row& row : table) {
    apics[1]->reset();
    if (row.from != kXapic) {
      ASSERT_TRUE(write_msr(1, 0x1B, row.from));
    }
    EXPECT_EQ(write_msr(1, 0x1B, row.to), row.allowed) << std::hex << row.from << " to " << row.to;
    EXPECT_EQ(read_msr(1, 0x1B), row.allowed ? row.to : row.from);
  }
  apics[1]->reset();
  EXPECT_FALSE(write_msr(1, 0x1B, kXapic | 1)) << "reserved bit";
  EXPECT_FALSE(write_msr(1, 0x1B, kXapic | std::uint64_t{1} << 46)) << "beyond the physical address";
}

TEST_F(LocalApicTest, DisablingForgetsTheRegisters) {
  write(0, kTpr, 0x50);
  ASSERT_TRUE(write_msr(0, 0x1B, 0xFEE0'0100));
  EXPECT_FALSE(apics[0]->maps(0xFEE0'0000));
  ASSERT_TRUE(write_msr(0, 0x1B, 0xFEE0'0900));
  EXPECT_EQ(read(0, kTpr), 0u);
}

TEST_F(LocalApicTest, X2ApicRegisters) {
  EXPECT_FALSE(msr_exists(2, 0x802)) << "no x2APIC mode yet";
  enter_x2apic(2);
  EXPECT_FALSE(apics[2]->maps(0xFEE0'0000));
  EXPECT_EQ(read_msr(2, 0x802), 2u);
  EXPECT_EQ(read_msr(2, 0x803), 0x0005'0014u);
  EXPECT_EQ(read_msr(2, 0x80D), 4u);
  for (const std::uint32_t msr :
       {0x808, 0x80A, 0x80F, 0x810, 0x818, 0x827, 0x828, 0x830, 0x832, 0x837, 0x838, 0x839, 0x83E}) {
    EXPECT_TRUE(msr_exists(2, msr)) << std::hex << msr;
  }
  for (const std::uint32_t msr : {0x800, 0x809, 0x80B, 0x80C, 0x80E, 0x829, 0x82F, 0x831, 0x83A, 0x83F, 0x840, 0x8FF}) {
    EXPECT_FALSE(msr_exists(2, msr)) << std::hex << msr;
  }
}

TEST_F(LocalApicTest, X2ApicWritesCheckReservedBits) {
  enter_x2apic(2);
  EXPECT_TRUE(write_msr(2, 0x808, 0xFF));
  EXPECT_FALSE(write_msr(2, 0x808, 0x100));
  EXPECT_TRUE(write_msr(2, 0x80B, 0));
  EXPECT_FALSE(write_msr(2, 0x80B, 1));
  EXPECT_FALSE(write_msr(2, 0x828, 1));
  EXPECT_FALSE(write_msr(2, 0x80F, 0x1000));
  EXPECT_FALSE(write_msr(2, 0x832, std::uint64_t{1} << 32));
  for (const std::uint32_t msr : {0x802, 0x803, 0x80A, 0x80D, 0x80E, 0x810, 0x820, 0x831, 0x839, 0x840}) {
    EXPECT_FALSE(write_msr(2, msr, 0)) << std::hex << msr;
  }
}

TEST_F(LocalApicTest, X2ApicSends) {
  for (unsigned i = 0; i < kCount; ++i) enter_x2apic(i);
  EXPECT_TRUE(write_msr(0, 0x830, std::uint64_t{3} << 32 | 0x4041));
  EXPECT_TRUE(apics[3]->pending());
  EXPECT_EQ(apics[3]->acknowledge(), 0x41);
  EXPECT_EQ(read_msr(0, 0x830), std::uint64_t{3} << 32 | 0x4041);
  EXPECT_TRUE(write_msr(0, 0x830, std::uint64_t{0b0110} << 32 | 0x4842));
  EXPECT_EQ(apics[1]->acknowledge(), 0x42);
  EXPECT_EQ(apics[2]->acknowledge(), 0x42);
  EXPECT_FALSE(apics[0]->pending());
  EXPECT_TRUE(write_msr(0, 0x830, std::uint64_t{0xFFFF'FFFF} << 32 | 0x4053));
  for (const auto& apic : apics) EXPECT_EQ(apic->acknowledge(), 0x53);
  EXPECT_TRUE(write_msr(0, 0x83F, 0x61));
  EXPECT_EQ(apics[0]->acknowledge(), 0x61);
}

// --- State ---

TEST_F(LocalApicTest, PendingAtSaveIsSignalledAfterRestore) {
  send(0, 0x41, TriggerMode::Level);
  const auto saved = state::save(test::describe_of(*apics[0]));
  apics[0]->reset();
  clear();
  ASSERT_TRUE(state::load(saved, test::describe_of(*apics[0])).ok());
  EXPECT_EQ(signals[0], (std::vector<Signalled>{{ApicSignal::Interrupt, 0}}));
  EXPECT_EQ(apics[0]->acknowledge(), 0x41);
}

TEST(LocalApicState, Contract) {
  test::ManualTime time;
  ApicBus bus;
  LocalApic apic({.apic_id = 3}, bus, time.clock, time.timers);
  test::expect_contract(
      apic, [&] { apic.reset(); },
      [&] {
        time.jump_to(1000);
        apic.enter_virtual_wire_mode();
        apic.write(0x80, 4, 0x30);
        apic.write(0xD0, 4, 0x0800'0000);
        apic.write(0x320, 4, 0x200EC);
        apic.write(0x380, 4, 12345);
        apic.write(0x310, 4, 0x0500'0000);
        apic.write(0x300, 4, 0x4'4041);
        apic.accept({.vector = 0x51, .trigger_mode = TriggerMode::Level});
        (void)apic.acknowledge();
        apic.set_input(LocalApic::kLint0, true);
        apic.read(0x010, 4);
        apic.set_tsc_offset(77);
      });
  test::expect_schema("lapic", apic);
}

}  // namespace
}  // namespace doppel::irq
