#include "x86/mmu.h"

#include <gtest/gtest.h>

#include <array>
#include <numeric>
#include <vector>

#include "x86/control_registers.h"
#include "x86/fake_platform.h"
#include "x86/page_tables.h"

namespace doppel::x86 {
namespace {

using Tables = test::FourLevelTables;

class MmuTest : public test::CpuTest {
 protected:
  static constexpr std::uint64_t kPage = 0x40'0000, kNext = 0x40'1000;         // linear
  static constexpr std::uint64_t kFrame = 0x10'0000, kOtherFrame = 0x18'0000;  // physical
  static constexpr std::uint64_t kMmio = 0xFEE0'0000;
  static constexpr std::uint64_t kAll = Tables::kP | Tables::kRw | Tables::kUs;

  void SetUp() override { test::enter_long_mode(cpu); }

  Mmu& mmu = cpu.mmu;
  Tables tables{memory};
};

TEST_F(MmuTest, WithoutPagingLinearIsPhysical) {
  cpu.state.cr0 = 0x10;
  cpu.state.efer = 0;
  mmu.refresh_view();
  mmu.write<std::uint32_t>(0x1234, 0xAABB'CCDD, View::Supervisor);
  EXPECT_EQ(peek_physical<std::uint32_t>(0x1234), 0xAABB'CCDDU);
  EXPECT_EQ(mmu.read<std::uint32_t>(0x1234, View::User), 0xAABB'CCDDU);
  EXPECT_EQ(mmu.fetch(0x5678).physical, 0x5678U);
}

TEST_F(MmuTest, OutsideLongModeAddressesHave32Bits) {
  cpu.state.cr0 = 0x10;
  cpu.state.efer = 0;
  poke_physical<std::uint8_t>(0, 0x12);
  io.mmio_bytes[0xFFFF'FFFF] = 0x34;
  EXPECT_EQ(mmu.read<std::uint16_t>(0xFFFF'FFFF, View::Supervisor), 0x1234U) << "wraps to address 0";
}

TEST_F(MmuTest, ReadsAndWritesThroughTheTables) {
  tables.map(kPage, kFrame, kAll);
  mmu.write<std::uint64_t>(kPage + 8, 0x1122'3344'5566'7788, View::User);
  EXPECT_EQ(peek_physical<std::uint64_t>(kFrame + 8), 0x1122'3344'5566'7788U);
  EXPECT_EQ(mmu.read<std::uint8_t>(kPage + 9, View::Supervisor), 0x77U);
}

TEST_F(MmuTest, ACrossingAccessTouchesBothPages) {
  tables.map(kPage, kFrame, kAll);
  tables.map(kNext, kOtherFrame, kAll);
  for (unsigned before = 1; before < 8; ++before) {
    const std::uint64_t value = 0x0102'0304'0506'0708 * before;
    for (int again = 0; again < 2; ++again) {  // with the translations cached, too
      mmu.write<std::uint64_t>(kNext - before, value, View::User);
      EXPECT_EQ(mmu.read<std::uint64_t>(kNext - before, View::User), value);
    }
    EXPECT_EQ(peek_physical<std::uint8_t>(kFrame + 0xFFF), (value >> (8 * (before - 1))) & 0xFF);
    EXPECT_EQ(peek_physical<std::uint8_t>(kOtherFrame), (value >> (8 * before)) & 0xFF);
  }
}

TEST_F(MmuTest, ACrossingStoreWithoutItsSecondPageChangesNothing) {
  tables.map(kPage, kFrame, kAll);
  poke_physical<std::uint32_t>(kFrame + 0xFFC, 0x5555'5555);
  const Fault fault = fault_of([&] { mmu.write<std::uint64_t>(kNext - 4, ~std::uint64_t{0}, View::User); });
  EXPECT_EQ(fault.vector, vector::kPf);
  EXPECT_EQ(fault.error_code, 6U);
  EXPECT_EQ(fault.address, kNext) << "CR2 is in the second page";
  EXPECT_EQ(peek_physical<std::uint32_t>(kFrame + 0xFFC), 0x5555'5555U);
}

TEST_F(MmuTest, AFaultReportsTheVeryAddress) {
  const Fault fault = fault_of([&] { mmu.read<std::uint8_t>(kPage + 0x123, View::Supervisor); });
  EXPECT_EQ(fault.vector, vector::kPf);
  EXPECT_TRUE(fault.has_error_code);
  EXPECT_EQ(fault.error_code, 0U);
  EXPECT_EQ(fault.address, kPage + 0x123);
}

TEST_F(MmuTest, NonCanonicalAddressesAreNoPageFault) {
  EXPECT_FAULT_CODE(vector::kGp, 0, mmu.read<std::uint8_t>(0x8000'0000'0000, View::Supervisor));
}

TEST_F(MmuTest, WritingSetsDirtyEvenAfterReading) {
  tables.map(kPage, kFrame, kAll);
  mmu.read<std::uint8_t>(kPage, View::User);
  EXPECT_EQ(tables.get(kPage) & (Tables::kA | Tables::kD), Tables::kA);
  mmu.write<std::uint8_t>(kPage, 1, View::User);
  EXPECT_EQ(tables.get(kPage) & (Tables::kA | Tables::kD), Tables::kA | Tables::kD);
}

TEST_F(MmuTest, ACachedRefusalIsNeverTrusted) {
  EXPECT_FAULT(vector::kPf, mmu.read<std::uint8_t>(kPage, View::User));
  tables.map(kPage, kFrame, Tables::kP | Tables::kUs);
  EXPECT_FAULT(kNoFault, mmu.read<std::uint8_t>(kPage, View::User));
  EXPECT_FAULT_CODE(vector::kPf, 7, mmu.write<std::uint8_t>(kPage, 1, View::User));
  tables.map(kPage, kFrame, kAll);
  EXPECT_FAULT(kNoFault, mmu.write<std::uint8_t>(kPage, 1, View::User));
}

TEST_F(MmuTest, EachViewHasItsOwnRights) {
  tables.map(kPage, kFrame, Tables::kP | Tables::kRw);  // the supervisor's
  mmu.write<std::uint8_t>(kPage, 1, View::Supervisor);
  EXPECT_FAULT_CODE(vector::kPf, 5, mmu.read<std::uint8_t>(kPage, View::User));
  cpu.state.cr4 |= cr4::kSmap;
  mmu.flush_all();
  tables.map(kNext, kFrame, kAll);
  mmu.write<std::uint8_t>(kNext, 1, View::Supervisor);
  EXPECT_FAULT_CODE(vector::kPf, 3, mmu.write<std::uint8_t>(kNext, 1, View::SupervisorSmap));
}

TEST_F(MmuTest, TheViewFollowsPrivilegeAndSmap) {
  EXPECT_EQ(mmu.data_view(), View::Supervisor);
  cpu.state.cr4 |= cr4::kSmap;
  mmu.refresh_view();
  EXPECT_EQ(mmu.data_view(), View::SupervisorSmap);
  cpu.state.set_rflags(rflags::kAc);
  mmu.refresh_view();
  EXPECT_EQ(mmu.data_view(), View::Supervisor);
  cpu.state.seg(SegReg::Ss).attributes |= 3 << 5;
  mmu.refresh_view();
  EXPECT_EQ(mmu.data_view(), View::User);
}

TEST_F(MmuTest, TranslationsStayUntilTheyAreFlushed) {
  tables.map(kPage, kFrame, kAll);
  poke_physical<std::uint8_t>(kFrame, 1);
  poke_physical<std::uint8_t>(kOtherFrame, 2);
  EXPECT_EQ(mmu.read<std::uint8_t>(kPage, View::User), 1U);
  tables.map(kPage, kOtherFrame, kAll);
  EXPECT_EQ(mmu.read<std::uint8_t>(kPage, View::User), 1U);
  mmu.flush_page(kNext);
  EXPECT_EQ(mmu.read<std::uint8_t>(kPage, View::User), 1U);
  mmu.flush_page(kPage + 0x10);
  EXPECT_EQ(mmu.read<std::uint8_t>(kPage, View::User), 2U);
}

TEST_F(MmuTest, GlobalPagesOutliveAChangeOfCr3) {
  tables.map(kPage, kFrame, kAll | Tables::kG);
  tables.map(kNext, kFrame, kAll);
  mmu.read<std::uint8_t>(kPage, View::User);
  mmu.read<std::uint8_t>(kNext, View::User);
  EXPECT_EQ(mmu.fetch(kPage).physical, kFrame);
  const std::uint64_t walks = mmu.stats().walks;
  mmu.flush_non_global();
  mmu.read<std::uint8_t>(kPage, View::User);
  mmu.fetch(kPage);
  EXPECT_EQ(mmu.stats().walks, walks);
  mmu.read<std::uint8_t>(kNext, View::User);
  EXPECT_EQ(mmu.stats().walks, walks + 1);
  mmu.flush_all();
  mmu.read<std::uint8_t>(kPage, View::User);
  EXPECT_EQ(mmu.stats().walks, walks + 2);
  mmu.flush_page(kPage);
  mmu.read<std::uint8_t>(kPage, View::User);
  EXPECT_EQ(mmu.stats().walks, walks + 3) << "INVLPG drops global pages too";
}

TEST_F(MmuTest, InvalidatingALargePageDropsAllItsPieces) {
  constexpr std::uint64_t kLarge = 0x4000'0000, kLargeFrame = 0x40'0000;
  tables.map(kLarge, kLargeFrame, kAll | Tables::kPs);
  for (std::uint64_t offset = 0; offset < 0x20'0000; offset += 0x1000)
    mmu.read<std::uint8_t>(kLarge + offset, View::User);
  tables.map(kLarge, kLargeFrame + 0x20'0000, kAll | Tables::kPs);
  poke_physical<std::uint8_t>(kLargeFrame + 0x20'0000 + 0x1F'F000, 0x77);
  EXPECT_EQ(mmu.read<std::uint8_t>(kLarge + 0x1F'F000, View::User), 0U);
  mmu.flush_page(kLarge + 0x3000);
  EXPECT_EQ(mmu.read<std::uint8_t>(kLarge + 0x1F'F000, View::User), 0x77U);
}

TEST_F(MmuTest, ManyPagesShareTheSlots) {
  for (std::uint64_t i = 0; i < 3000; ++i) tables.map(kPage + i * 0x1000, kFrame + (i % 16) * 0x1000, kAll);
  for (std::uint64_t i = 0; i < 16; ++i) poke_physical<std::uint64_t>(kFrame + i * 0x1000, i);
  for (std::uint64_t i = 0; i < 3000; ++i) ASSERT_EQ(mmu.read<std::uint64_t>(kPage + i * 0x1000, View::User), i % 16);
  mmu.flush_all();
  for (std::uint64_t i = 0; i < 3000; ++i) ASSERT_EQ(mmu.read<std::uint64_t>(kPage + i * 0x1000, View::User), i % 16);
}

TEST_F(MmuTest, MmioIsSplitIntoNaturalPieces) {
  tables.map(kPage, kMmio, kAll);
  mmu.write<std::uint32_t>(kPage + 0x80, 0x1234'5678, View::Supervisor);
  mmu.write<std::uint64_t>(kPage + 0x84, 0x1122'3344'5566'7788, View::Supervisor);
  mmu.write<std::uint32_t>(kPage + 0x91, 0xAABB'CCDD, View::Supervisor);
  const std::vector<test::FakeIo::Transfer> expected{{kMmio + 0x80, 4, 0x1234'5678}, {kMmio + 0x84, 4, 0x5566'7788},
                                                     {kMmio + 0x88, 4, 0x1122'3344}, {kMmio + 0x91, 1, 0xDD},
                                                     {kMmio + 0x92, 2, 0xBBCC},      {kMmio + 0x94, 1, 0xAA}};
  EXPECT_EQ(io.mmio_writes, expected);
  for (unsigned i = 0; i < 16; ++i) io.mmio_bytes[kMmio + i] = static_cast<std::uint8_t>(i);
  std::array<std::byte, 16> vector_register{};
  mmu.read_bytes(kPage, vector_register, View::Supervisor);
  EXPECT_EQ(static_cast<unsigned>(vector_register[15]), 15U);
  const std::vector<std::pair<std::uint64_t, unsigned>> reads{{kMmio, 8}, {kMmio + 8, 8}};
  EXPECT_EQ(io.mmio_reads, reads);
  EXPECT_EQ(mmu.host(kPage, 4, Access::Read, View::Supervisor), nullptr);
  EXPECT_EQ(mmu.fetch(kPage + 4).host, nullptr);
  EXPECT_EQ(mmu.fetch(kPage + 4).physical, kMmio + 4);
}

TEST_F(MmuTest, NothingReachesADeviceWhenTheOtherPageFaults) {
  tables.map(kPage, kMmio, kAll);
  EXPECT_FAULT(vector::kPf, mmu.write<std::uint64_t>(kNext - 4, 0, View::User));
  EXPECT_TRUE(io.mmio_writes.empty());
}

TEST_F(MmuTest, LongTransfersCrossManyPages) {
  for (std::uint64_t i = 0; i < 4; ++i) tables.map(kPage + i * 0x1000, kFrame + (3 - i) * 0x1000, kAll);
  std::vector<std::byte> bytes(0x2800);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 256);
  mmu.write_bytes(kPage + 0x801, bytes, View::User);
  std::vector<std::byte> back(bytes.size());
  mmu.read_bytes(kPage + 0x801, back, View::User);
  EXPECT_EQ(back, bytes);
  EXPECT_EQ(peek_physical<std::byte>(kFrame + 0x3801), bytes[0]);

  tables.map(kPage + 0x2000, 0, 0);
  mmu.flush_all();
  poke_physical<std::uint8_t>(kFrame + 0x3801, 0xEE);
  EXPECT_FAULT(vector::kPf, mmu.write_bytes(kPage + 0x801, bytes, View::User));
  EXPECT_EQ(peek_physical<std::uint8_t>(kFrame + 0x3801), 0xEEU) << "nothing is written when a later page faults";
}

TEST_F(MmuTest, HostPointersStayInOnePage) {
  tables.map(kPage, kFrame, kAll);
  tables.map(kNext, kFrame + 0x1000, kAll);
  std::byte* host = mmu.host(kPage + 0x10, 0xFF0, Access::Write, View::User);
  ASSERT_NE(host, nullptr);
  EXPECT_EQ(host, memory.page(kFrame) + 0x10);
  EXPECT_EQ(mmu.host(kPage + 0x10, 0xFF1, Access::Read, View::User), nullptr);
  EXPECT_FAULT(vector::kPf, mmu.host(kPage + 0x2000, 1, Access::Read, View::User));
}

TEST_F(MmuTest, ProbeFaultsOrChangesNothingButMarks) {
  tables.map(kPage, kFrame, kAll);
  mmu.probe(kPage, 0x1000, Access::Write, View::User);
  EXPECT_NE(tables.get(kPage) & Tables::kD, 0U);
  EXPECT_FAULT_CODE(vector::kPf, 6, mmu.probe(kPage + 1, 0x1000, Access::Write, View::User));
}

TEST_F(MmuTest, FetchRespectsNxAndSmep) {
  tables.map(kPage, kFrame, kAll | bit(63));
  EXPECT_FAULT_CODE(vector::kPf, 0x11, mmu.fetch(kPage));
  tables.map(kPage, kFrame, kAll);
  EXPECT_EQ(mmu.fetch(kPage + 5).host, memory.page(kFrame) + 5);
  cpu.state.cr4 |= cr4::kSmep;
  mmu.flush_all();
  EXPECT_FAULT_CODE(vector::kPf, 0x11, mmu.fetch(kPage));
  cpu.state.seg(SegReg::Ss).attributes |= 3 << 5;
  mmu.refresh_view();
  EXPECT_EQ(mmu.fetch(kPage).physical, kFrame);
}

TEST_F(MmuTest, StoresMarkPagesDirty) {
  tables.map(kPage, kFrame, kAll);
  mmu.read<std::uint8_t>(kPage, View::User);
  memory.dirty().collect();
  mmu.read<std::uint8_t>(kPage, View::User);
  EXPECT_FALSE(memory.dirty().is_dirty(memory.page_index(kFrame)));
  mmu.write<std::uint8_t>(kPage, 1, View::User);
  EXPECT_TRUE(memory.dirty().is_dirty(memory.page_index(kFrame)));
  memory.dirty().collect();
  mmu.flush_all();
  mmu.write<std::uint8_t>(kPage, 1, View::User);
  EXPECT_TRUE(memory.dirty().is_dirty(memory.page_index(kFrame)));
}

TEST_F(MmuTest, StoresToCodeAreNoticedOnEveryPath) {
  tables.map(kPage, kFrame, kAll);
  tables.map(kNext, kOtherFrame, kAll);
  mmu.write<std::uint8_t>(kPage, 0, View::User);
  mmu.write<std::uint8_t>(kNext, 0, View::User);
  const std::uint64_t page = memory.page_index(kFrame), next = memory.page_index(kOtherFrame);
  EXPECT_FALSE(mmu.take_code_modified());

  memory.code().add_code(page, 0x100, 4);
  mmu.write<std::uint32_t>(kPage + 0x200, 1, View::User);
  EXPECT_FALSE(mmu.take_code_modified()) << "data beside code";
  mmu.write<std::uint32_t>(kPage + 0x17E, 1, View::User);
  EXPECT_TRUE(mmu.take_code_modified());
  EXPECT_FALSE(mmu.take_code_modified());

  memory.code().add_code(next, 0, 4);
  mmu.write<std::uint32_t>(kNext - 2, 1, View::User);
  EXPECT_TRUE(mmu.take_code_modified()) << "a store that crosses into the page";

  memory.code().add_code(page, 0, 4);
  mmu.host(kPage, 8, Access::Write, View::User);
  mmu.wrote(kPage, 8, View::User);
  EXPECT_TRUE(mmu.take_code_modified());

  memory.code().add_code(page, 0, 4);
  mmu.flush_all();
  mmu.wrote(kPage, 8, View::User);
  EXPECT_TRUE(mmu.take_code_modified()) << "the slot is gone, the promise is not";
}

TEST_F(MmuTest, WatchesSeeAccessesAndNothingElse) {
  tables.map(kPage, kFrame, kAll);
  mmu.set_watches({{kPage + 0x10, 4, false, true, 0}});
  mmu.set_debug_register_watches({{kPage + 0x20, 8, true, true, 2}});
  LinearAddress hit = 0;
  mmu.write<std::uint32_t>(kPage + 0xC, 1, View::User);
  mmu.write<std::uint32_t>(kPage + 0x14, 1, View::User);
  mmu.read<std::uint32_t>(kPage + 0x10, View::User);
  EXPECT_FALSE(mmu.take_watch_hit(hit));
  EXPECT_EQ(cpu.state.pending_debug, 0U);
  mmu.write<std::uint64_t>(kPage + 0xA, 1, View::User);
  EXPECT_TRUE(mmu.take_watch_hit(hit));
  EXPECT_EQ(hit, kPage + 0x10);
  EXPECT_FALSE(mmu.take_watch_hit(hit));
  mmu.read<std::uint8_t>(kPage + 0x27, View::User);
  EXPECT_EQ(cpu.state.pending_debug, 2U);
  EXPECT_EQ(mmu.host(kPage + 0x800, 1, Access::Read, View::User), nullptr);

  cpu.state.pending_debug = 0;
  mmu.set_watches({});
  mmu.set_debug_register_watches({});
  EXPECT_FALSE(mmu.has_watches());
  mmu.read<std::uint8_t>(kPage + 0x27, View::User);
  EXPECT_EQ(cpu.state.pending_debug, 0U);
}

TEST_F(MmuTest, AFaultingAccessHitsNoWatch) {
  mmu.set_debug_register_watches({{kPage, 8, true, true, 1}});
  EXPECT_FAULT(vector::kPf, mmu.read<std::uint8_t>(kPage, View::User));
  EXPECT_EQ(cpu.state.pending_debug, 0U);
}

TEST_F(MmuTest, ListenersHearOfFlushes) {
  struct Listener : Mmu::FlushListener {
    std::vector<LinearAddress> pages;
    int all = 0, non_global = 0;
    void flushed_all() override { ++all; }
    void flushed_non_global() override { ++non_global; }
    void flushed_page(LinearAddress address) override { pages.push_back(address); }
  } listener;
  mmu.set_flush_listener(&listener);
  mmu.flush_page(kPage + 5);
  mmu.flush_all();
  mmu.flush_non_global();
  EXPECT_EQ(listener.all, 1);
  EXPECT_EQ(listener.non_global, 1);
  EXPECT_EQ(listener.pages, std::vector<LinearAddress>{kPage});
  mmu.set_flush_listener(nullptr);
}

TEST_F(MmuTest, DebuggersTranslateWithoutATrace) {
  tables.map(kPage, kFrame, Tables::kP);
  memory::GuestPhysical physical = 0;
  EXPECT_TRUE(mmu.debug_translate(kPage + 3, physical));
  EXPECT_EQ(physical, kFrame + 3);
  EXPECT_EQ(tables.get(kPage), kFrame | Tables::kP);
  EXPECT_FALSE(mmu.debug_translate(kNext, physical));
  EXPECT_FALSE(mmu.debug_translate(0x8000'0000'0000, physical));
}

/// A program that was returned to such an address ended the monitor when direct execution asked for its code.
TEST_F(MmuTest, NothingIsSettledWhereNoAddressIs) {
  tables.map(kPage, kFrame, kAll);
  mmu.read<std::uint8_t>(kPage, View::User);
  memory::GuestPhysical page = 0;
  EXPECT_TRUE(mmu.settled(kPage + 3, Access::Execute, View::User, page));
  EXPECT_EQ(page, kFrame);
  EXPECT_FALSE(mmu.settled(0x8000'0000'0000, Access::Execute, View::User, page));
  cpu.state.cr0 = 0x10;
  cpu.state.efer = 0;
  EXPECT_TRUE(mmu.settled(kPage + (1ULL << 32), Access::Read, View::User, page)) << "32 bits count";
  EXPECT_EQ(page, kPage);
}

class AlignmentTest : public MmuTest {
 protected:
  void SetUp() override {
    MmuTest::SetUp();
    tables.map(kPage, kFrame, kAll);
    tables.map(kNext, kOtherFrame, kAll);
    cpu.state.seg(SegReg::Ss).attributes |= 3 << 5;
    cpu.state.cr0 |= cr0::kAm;
    cpu.state.set_rflags(rflags::kAc);
    mmu.refresh_view();
  }
};

TEST_F(AlignmentTest, UserAccessesHaveToBeAligned) {
  EXPECT_TRUE(mmu.checks_alignment());
  for (int again = 0; again < 2; ++again) {
    EXPECT_FAULT(kNoFault, mmu.read<std::uint8_t>(kPage + 1, View::User));
    EXPECT_FAULT(kNoFault, mmu.read<std::uint64_t>(kPage + 8, View::User));
    EXPECT_FAULT_CODE(vector::kAc, 0, mmu.read<std::uint16_t>(kPage + 1, View::User));
    EXPECT_FAULT_CODE(vector::kAc, 0, mmu.write<std::uint32_t>(kPage + 2, 0, View::User));
    EXPECT_FAULT_CODE(vector::kAc, 0, mmu.read<std::uint64_t>(kNext - 4, View::User));
    EXPECT_FAULT_CODE(vector::kAc, 0, mmu.host(kPage + 4, 8, Access::Write, View::User));
  }
}

TEST_F(AlignmentTest, OtherSizesHaveTheirOwnAlignment) {
  std::array<std::byte, 108> image{};
  const auto read = [&](std::uint64_t offset, std::size_t size) {
    mmu.read_bytes(kPage + offset, std::span(image).first(size), View::User);
  };
  EXPECT_FAULT(kNoFault, read(8, 10));
  EXPECT_FAULT_CODE(vector::kAc, 0, read(4, 10));
  EXPECT_FAULT(kNoFault, read(4, 108));
  EXPECT_FAULT_CODE(vector::kAc, 0, read(2, 108));
  EXPECT_FAULT(kNoFault, read(2, 14));
  EXPECT_FAULT_CODE(vector::kAc, 0, read(1, 14));
  EXPECT_FAULT(kNoFault, read(16, 32));
  EXPECT_FAULT_CODE(vector::kAc, 0, read(8, 16));
}

TEST_F(AlignmentTest, TheSystemsOwnAccessesDoNot) {
  EXPECT_FAULT(kNoFault, mmu.read<std::uint32_t>(kPage + 1, View::Supervisor));
  EXPECT_FAULT(kNoFault, mmu.read<std::uint32_t>(kPage + 1, View::SupervisorSmap));
}

TEST_F(AlignmentTest, EachOfAmAcAndLevel3IsNeeded) {
  cpu.state.cr0 &= ~cr0::kAm;
  mmu.refresh_view();
  EXPECT_FAULT(kNoFault, mmu.read<std::uint32_t>(kPage + 1, View::User)) << "which the TLB keeps from now on";
  cpu.state.cr0 |= cr0::kAm;
  mmu.refresh_view();
  EXPECT_FAULT_CODE(vector::kAc, 0, mmu.read<std::uint32_t>(kPage + 1, View::User));
  cpu.state.set_rflags(0);
  mmu.refresh_view();
  EXPECT_FAULT(kNoFault, mmu.read<std::uint32_t>(kPage + 1, View::User));
  cpu.state.set_rflags(rflags::kAc);
  cpu.state.seg(SegReg::Ss).attributes &= ~(3U << 5);
  mmu.refresh_view();
  EXPECT_FAULT(kNoFault, mmu.read<std::uint32_t>(kPage + 1, View::User));
}

TEST_F(AlignmentTest, Cr0AmIsHeededAtOnce) {
  write_cr0(cpu, cpu.state.cr0 & ~cr0::kAm);
  EXPECT_FALSE(mmu.checks_alignment());
  write_cr0(cpu, cpu.state.cr0 | cr0::kAm);
  EXPECT_TRUE(mmu.checks_alignment());
}

}  // namespace
}  // namespace doppel::x86
