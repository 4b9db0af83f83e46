#include "x86/control_registers.h"

#include <gtest/gtest.h>

#include "x86/fake_platform.h"
#include "x86/page_tables.h"

namespace doppel::x86 {
namespace {

class ControlRegistersTest : public test::CpuTest {
 protected:
  CpuState& state = cpu.state;

  static constexpr std::uint64_t kPdpt = 0x5000;
  /// Protected mode with PAE tables in place, paging still off.
  void prepare_pae() {
    write_cr0(cpu, cr0::kPe);
    write_cr3(cpu, kPdpt);
    write_cr4(cpu, cr4::kPae);
    for (std::uint64_t i = 0; i < 4; ++i) poke_physical<std::uint64_t>(kPdpt + 8 * i, 0x6000 + i * 0x1000 + 1);
  }
  void enter_long_mode() {
    write_cr0(cpu, cr0::kPe);
    write_cr4(cpu, cr4::kPae);
    write_efer(cpu, efer::kLme | efer::kNxe);
    write_cr0(cpu, cr0::kPe | cr0::kPg);
  }
};

TEST_F(ControlRegistersTest, Cr0RefusesImpossibleCombinations) {
  const std::uint64_t before = state.cr0;
  EXPECT_FAULT_CODE(vector::kGp, 0, write_cr0(cpu, cr0::kPg));
  EXPECT_FAULT_CODE(vector::kGp, 0, write_cr0(cpu, cr0::kNw));
  EXPECT_FAULT_CODE(vector::kGp, 0, write_cr0(cpu, bit(32) | cr0::kPe));
  EXPECT_EQ(state.cr0, before);
  EXPECT_FAULT(kNoFault, write_cr0(cpu, cr0::kNw | cr0::kCd));
}

TEST_F(ControlRegistersTest, Cr0IgnoresReservedBitsAndKeepsEt) {
  write_cr0(cpu, 0x1FFA'FFC0 | cr0::kPe);
  EXPECT_EQ(state.cr0, cr0::kPe | cr0::kEt);
}

TEST_F(ControlRegistersTest, PagingWithLmeActivatesLongMode) {
  enter_long_mode();
  EXPECT_TRUE(state.long_mode_active());
  write_cr0(cpu, cr0::kPe);
  EXPECT_FALSE(state.long_mode_active());
  EXPECT_EQ(state.efer, efer::kLme | efer::kNxe);
}

TEST_F(ControlRegistersTest, LongModeActivationIsChecked) {
  write_cr0(cpu, cr0::kPe);
  write_efer(cpu, efer::kLme);
  EXPECT_FAULT_CODE(vector::kGp, 0, write_cr0(cpu, cr0::kPe | cr0::kPg)) << "without PAE";
  write_cr4(cpu, cr4::kPae);
  state.seg(SegReg::Cs).attributes |= Segment::kL;
  EXPECT_FAULT_CODE(vector::kGp, 0, write_cr0(cpu, cr0::kPe | cr0::kPg));
  state.seg(SegReg::Cs).attributes &= ~Segment::kL;
  state.tr.attributes = Segment::kP | 3;
  EXPECT_FAULT_CODE(vector::kGp, 0, write_cr0(cpu, cr0::kPe | cr0::kPg));
  state.tr.attributes = Segment::kP | 11;
  EXPECT_FAULT(kNoFault, write_cr0(cpu, cr0::kPe | cr0::kPg));
}

TEST_F(ControlRegistersTest, LongModeHoldsItsPrerequisites) {
  enter_long_mode();
  EXPECT_FAULT_CODE(vector::kGp, 0, write_cr4(cpu, 0));
  EXPECT_FAULT_CODE(vector::kGp, 0, write_efer(cpu, efer::kNxe));
  EXPECT_FAULT(kNoFault, write_efer(cpu, efer::kLme | efer::kSce));
  EXPECT_EQ(state.efer, efer::kLme | efer::kSce | efer::kLma);
  state.seg(SegReg::Cs).attributes |= Segment::kL;
  EXPECT_FAULT_CODE(vector::kGp, 0, write_cr0(cpu, cr0::kPe)) << "64-bit code may not turn paging off";
}

TEST_F(ControlRegistersTest, EferRefusesReservedBits) {
  for (unsigned number = 0; number < 64; ++number) {
    const bool known = number == 0 || number == 8 || number == 10 || number == 11 ||
                       (number == 21 && cpuid.has(CpuidModel::Feature::AutoIbrs));
    EXPECT_FAULT(known ? kNoFault : vector::kGp, write_efer(cpu, bit(number))) << number;
  }
  EXPECT_EQ(state.efer & efer::kLma, 0U) << "LMA is read-only";
}

TEST_F(ControlRegistersTest, Cr4RefusesWhatCpuidDoesNotOffer) {
  using F = CpuidModel::Feature;
  for (unsigned number = 0; number < 64; ++number) {
    bool known = number >= 2 && number <= 10;
    if (number == 11) known = cpuid.has(F::Umip);
    if (number == 16) known = cpuid.has(F::Fsgsbase);
    if (number == 18) known = cpuid.has(F::Xsave);
    if (number == 20) known = cpuid.has(F::Smep);
    if (number == 21) known = cpuid.has(F::Smap);
    EXPECT_FAULT(known ? kNoFault : vector::kGp, write_cr4(cpu, bit(number))) << number;
  }
}

TEST_F(ControlRegistersTest, PcidsNeedLongModeAndAClearPcid) {
  if (!cpuid.has(CpuidModel::Feature::Pcid)) GTEST_SKIP() << "this host has no PCIDs";
  EXPECT_FAULT_CODE(vector::kGp, 0, write_cr4(cpu, cr4::kPcide));
  enter_long_mode();
  write_cr3(cpu, 0x1018);
  EXPECT_FAULT_CODE(vector::kGp, 0, write_cr4(cpu, cr4::kPae | cr4::kPcide));
  write_cr3(cpu, 0x1000);
  EXPECT_FAULT_CODE(vector::kGp, 0, write_cr3(cpu, bit(63) | 0x1000));
  write_cr4(cpu, cr4::kPae | cr4::kPcide);
  write_cr3(cpu, bit(63) | 0x1007);
  EXPECT_EQ(state.cr3, 0x1007U) << "bit 63 is not stored";
  EXPECT_FAULT_CODE(vector::kGp, 0, write_cr0(cpu, cr0::kPe));
}

TEST_F(ControlRegistersTest, Cr3RefusesAddressesThatDoNotExist) {
  enter_long_mode();
  const unsigned width = cpuid.physical_address_bits();
  EXPECT_FAULT(kNoFault, write_cr3(cpu, bit(width - 1)));
  EXPECT_FAULT_CODE(vector::kGp, 0, write_cr3(cpu, bit(width)));
  EXPECT_EQ(state.cr3, bit(width - 1));
}

TEST_F(ControlRegistersTest, PaeLoadsThePdptes) {
  prepare_pae();
  write_cr0(cpu, cr0::kPe | cr0::kPg);
  EXPECT_EQ(state.pdpte[3], 0x9001U);
  poke_physical<std::uint64_t>(kPdpt + 24, 0xF001);
  EXPECT_EQ(state.pdpte[3], 0x9001U) << "they are registers, not memory";
  write_cr3(cpu, kPdpt);
  EXPECT_EQ(state.pdpte[3], 0xF001U);
  poke_physical<std::uint64_t>(kPdpt + 24, 0xE001);
  write_cr4(cpu, cr4::kPae | cr4::kPge);
  EXPECT_EQ(state.pdpte[3], 0xE001U);
  poke_physical<std::uint64_t>(kPdpt + 24, 0xD001);
  write_cr0(cpu, cr0::kPe | cr0::kPg | cr0::kCd);
  EXPECT_EQ(state.pdpte[3], 0xD001U);
}

TEST_F(ControlRegistersTest, BadPdptesAreRefusedWithNothingChanged) {
  prepare_pae();
  for (const std::uint64_t reserved : {bit(1), bit(2), bit(5), bit(8), bit(63), bit(cpuid.physical_address_bits())}) {
    poke_physical<std::uint64_t>(kPdpt + 16, 0x8001 | reserved);
    EXPECT_FAULT_CODE(vector::kGp, 0, write_cr0(cpu, cr0::kPe | cr0::kPg));
    EXPECT_EQ(state.cr0 & cr0::kPg, 0U);
    poke_physical<std::uint64_t>(kPdpt + 16, 0x8000 | reserved);
    EXPECT_FAULT(kNoFault, write_cr0(cpu, cr0::kPe | cr0::kPg)) << "only present ones are checked";
    write_cr0(cpu, cr0::kPe);
  }
  poke_physical<std::uint64_t>(kPdpt + 16, 0x8001);
  write_cr0(cpu, cr0::kPe | cr0::kPg);
  EXPECT_FAULT_CODE(vector::kGp, 0, write_cr3(cpu, 0x9000'0000)) << "no RAM there";
  EXPECT_EQ(state.cr3, kPdpt);
}

TEST_F(ControlRegistersTest, WritesFlushWhatTheyMust) {
  using Tables = test::FourLevelTables;
  constexpr std::uint64_t kPage = 0x40'0000;
  Tables tables{memory};
  test::enter_long_mode(cpu);
  tables.map(kPage, 0x10'0000, Tables::kP | Tables::kRw | Tables::kG);
  const auto cached = [&] {
    const std::uint64_t before = cpu.mmu.stats().walks;
    cpu.mmu.read<std::uint8_t>(kPage, View::Supervisor);
    return cpu.mmu.stats().walks == before;
  };
  cached();
  EXPECT_TRUE(cached());
  write_cr3(cpu, Tables::kTables);
  EXPECT_TRUE(cached()) << "a global page";
  write_cr0(cpu, state.cr0 ^ cr0::kWp);
  EXPECT_FALSE(cached());
  write_cr0(cpu, state.cr0 ^ cr0::kTs);
  EXPECT_TRUE(cached());
  write_cr4(cpu, state.cr4 ^ cr4::kPge);
  EXPECT_FALSE(cached());
  write_cr4(cpu, state.cr4 ^ cr4::kTsd);
  EXPECT_TRUE(cached());
  write_efer(cpu, state.efer ^ efer::kNxe);
  EXPECT_FALSE(cached());
  write_cr3(cpu, Tables::kTables);
  EXPECT_FALSE(cached()) << "without PGE no page is global";
}

TEST_F(ControlRegistersTest, SmapChangesTheView) {
  if (!cpuid.has(CpuidModel::Feature::Smap)) GTEST_SKIP() << "this host has no SMAP";
  write_cr4(cpu, cr4::kSmap);
  EXPECT_EQ(cpu.mmu.data_view(), View::SupervisorSmap);
  write_cr4(cpu, 0);
  EXPECT_EQ(cpu.mmu.data_view(), View::Supervisor);
}

TEST_F(ControlRegistersTest, Xcr0KeepsItsRules) {
  EXPECT_FAULT_CODE(vector::kGp, 0, write_xcr0(cpu, 0));
  EXPECT_FAULT_CODE(vector::kGp, 0, write_xcr0(cpu, xcr0::kSse));
  EXPECT_FAULT_CODE(vector::kGp, 0, write_xcr0(cpu, xcr0::kX87 | xcr0::kAvx));
  EXPECT_FAULT_CODE(vector::kGp, 0, write_xcr0(cpu, xcr0::kX87 | xcr0::kSse | bit(9)));
  write_xcr0(cpu, xcr0::kX87 | xcr0::kSse);
  EXPECT_EQ(state.xcr0, 3U);
}

TEST_F(ControlRegistersTest, DebugRegistersKeepTheirFixedBits) {
  write_debug_register(cpu, 6, 0);
  EXPECT_EQ(read_debug_register(cpu, 6), 0xFFFF'0FF0U);
  write_debug_register(cpu, 6, 0xFFFF'FFFF);
  EXPECT_EQ(read_debug_register(cpu, 6), 0xFFFF'EFFFU);
  write_debug_register(cpu, 7, 0);
  EXPECT_EQ(read_debug_register(cpu, 7), 0x400U);
  write_debug_register(cpu, 7, 0xFFFF'DFFF);
  EXPECT_EQ(read_debug_register(cpu, 7), 0xFFFF'07FFU);
  EXPECT_FAULT_CODE(vector::kGp, 0, write_debug_register(cpu, 6, bit(32)));
  EXPECT_FAULT_CODE(vector::kGp, 0, write_debug_register(cpu, 7, bit(32)));
  write_debug_register(cpu, 2, ~std::uint64_t{0});
  EXPECT_EQ(read_debug_register(cpu, 2), ~std::uint64_t{0});
}

TEST_F(ControlRegistersTest, Dr4AndDr5AreOldNames) {
  write_debug_register(cpu, 4, 1);
  EXPECT_EQ(read_debug_register(cpu, 6), 0xFFFF'0FF1U);
  EXPECT_EQ(read_debug_register(cpu, 5), read_debug_register(cpu, 7));
  write_cr4(cpu, cr4::kDe);
  EXPECT_FAULT(vector::kUd, read_debug_register(cpu, 4));
  EXPECT_FAULT(vector::kUd, write_debug_register(cpu, 5, 0));
}

TEST_F(ControlRegistersTest, GeneralDetectGuardsTheDebugRegisters) {
  write_debug_register(cpu, 7, bit(13));
  EXPECT_FAULT(vector::kDb, read_debug_register(cpu, 0));
  EXPECT_NE(state.dr6 & bit(13), 0U);
  EXPECT_FAULT(kNoFault, read_debug_register(cpu, 0)) << "GD is clear in the handler";
}

// SDM vol. 3, 17.2.5: the ranges that a length of 1, 2, 4 and 8 bytes covers.
TEST_F(ControlRegistersTest, Dr7SetsDataBreakpoints) {
  struct Case {
    unsigned kind, length_code;
    std::uint64_t address;
    std::uint64_t first, last;  ///< bytes that hit
  };
  constexpr unsigned kWrites = 1, kReadsAndWrites = 3;
  for (const Case& c : {Case{kWrites, 0, 0x1003, 0x1003, 0x1003}, Case{kReadsAndWrites, 1, 0x1003, 0x1002, 0x1003},
                        Case{kWrites, 3, 0x1007, 0x1004, 0x1007}, Case{kReadsAndWrites, 2, 0x100F, 0x1008, 0x100F}}) {
    for (unsigned index = 0; index < 4; ++index) {
      write_debug_register(cpu, 7, 0);
      write_debug_register(cpu, index, c.address);
      write_debug_register(cpu, 7, bit(2 * index) | std::uint64_t{c.kind | c.length_code << 2} << (16 + 4 * index));
      for (std::uint64_t address = 0xFFF; address < 0x1018; ++address) {
        const bool inside = address >= c.first && address <= c.last;
        state.pending_debug = 0;
        cpu.mmu.write<std::uint8_t>(address, 0, View::Supervisor);
        EXPECT_EQ(state.pending_debug, inside ? bit(index) : 0U) << address;
        state.pending_debug = 0;
        cpu.mmu.read<std::uint8_t>(address, View::Supervisor);
        EXPECT_EQ(state.pending_debug, inside && c.kind == kReadsAndWrites ? bit(index) : 0U) << address;
      }
    }
  }
}

TEST_F(ControlRegistersTest, InvpcidChecksItsOperands) {
  ASSERT_EQ(state.cr4 & cr4::kPcide, 0U);
  EXPECT_FAULT_CODE(vector::kGp, 0, invalidate_pcid(cpu, 4, 0, 0));
  for (std::uint64_t type = 0; type < 4; ++type) {
    EXPECT_FAULT_CODE(vector::kGp, 0, invalidate_pcid(cpu, type, 0x1000, 0));
    EXPECT_FAULT(kNoFault, invalidate_pcid(cpu, type, 0, 0));
    EXPECT_FAULT(type < 2 ? vector::kGp : kNoFault, invalidate_pcid(cpu, type, 1, 0));
    EXPECT_FAULT(type == 0 ? vector::kGp : kNoFault, invalidate_pcid(cpu, type, 0, 0x8000'0000'0000));
  }
}

TEST_F(ControlRegistersTest, InvpcidFlushesWhatItNames) {
  using Tables = test::FourLevelTables;
  constexpr std::uint64_t kPage = 0x40'0000, kGlobal = 0x40'1000;
  Tables tables{memory};
  test::enter_long_mode(cpu);
  tables.map(kPage, 0x10'0000, Tables::kP | Tables::kRw);
  tables.map(kGlobal, 0x10'0000, Tables::kP | Tables::kRw | Tables::kG);
  const auto walks_for = [&](std::uint64_t address) {
    const std::uint64_t before = cpu.mmu.stats().walks;
    cpu.mmu.read<std::uint8_t>(address, View::Supervisor);
    return cpu.mmu.stats().walks - before;
  };
  struct Case {
    std::uint64_t type;
    std::uint64_t page_walks, global_walks;
  };
  for (const Case& c : {Case{0, 1, 0}, Case{1, 1, 0}, Case{2, 1, 1}, Case{3, 1, 0}}) {
    walks_for(kPage);
    walks_for(kGlobal);
    invalidate_pcid(cpu, c.type, 0, kPage);
    EXPECT_EQ(walks_for(kPage), c.page_walks) << c.type;
    EXPECT_EQ(walks_for(kGlobal), c.global_walks) << c.type;
  }
}

TEST_F(ControlRegistersTest, AReplacedStateTakesEffect) {
  cpu.mmu.write<std::uint8_t>(0x2000, 1, View::Supervisor);
  state.dr7 = 0x0001'0401;  // write breakpoint 0, one byte
  state.dr[0] = 0x2000;
  state.cr0 |= cr0::kPe;
  state.seg(SegReg::Ss).attributes |= 3 << 5;
  state.fpu.mxcsr = 0xFFFF'FFFF;
  state_replaced(cpu);
  EXPECT_EQ(cpu.mmu.data_view(), View::User);
  EXPECT_EQ(state.fpu.mxcsr, 0xFFFFU);
  cpu.mmu.write<std::uint8_t>(0x2000, 1, View::User);
  EXPECT_EQ(state.pending_debug, 1U);
}

TEST_F(ControlRegistersTest, IoBreakpointsMeetThePortsTheyCover) {
  write_debug_register(cpu, 0, 0x60);
  write_debug_register(cpu, 1, 0x3F8);
  write_debug_register(cpu, 2, 0x3F8);
  // L0: I/O, one byte. L1: I/O, four bytes. L2: an instruction breakpoint at the same number.
  write_debug_register(cpu, 7, bit(0) | bit(2) | bit(4) | 0x2ULL << 16 | 0xEULL << 20);
  note_port_access(cpu, 0x60, 1);
  EXPECT_EQ(state.pending_debug, 0U) << "they exist under CR4.DE only";
  write_cr4(cpu, cr4::kDe);
  note_port_access(cpu, 0x61, 4);
  note_port_access(cpu, 0x3FC, 1);
  EXPECT_EQ(state.pending_debug, 0U);
  note_port_access(cpu, 0x5E, 4);
  EXPECT_EQ(state.pending_debug, 1U);
  note_port_access(cpu, 0x3FB, 1);
  EXPECT_EQ(state.pending_debug, 3U);
}

}  // namespace
}  // namespace doppel::x86
