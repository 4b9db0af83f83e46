#include "x86/paging_walk.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/bits.h"

namespace doppel::x86 {
namespace {

using memory::GuestMemory;
using memory::GuestPhysical;

constexpr std::uint64_t kP = 1, kRw = 2, kUs = 4, kA = 0x20, kD = 0x40, kPs = 0x80, kG = 0x100, kNx = bit(63);

/// A way to map a page: the tables it takes and where they lie.
struct Geometry {
  std::string_view name;
  PagingMode mode;
  std::vector<unsigned> shifts;  ///< of the levels walked, from the top
  unsigned entry_size;
  std::uint64_t leaf_bits;  ///< PS for large pages
  std::uint64_t frame;      ///< physical address of the page mapped

  unsigned index_bits() const { return entry_size == 4 ? 10 : 9; }
  std::size_t levels() const { return shifts.size(); }
  unsigned page_shift() const { return shifts.back(); }
  bool large() const { return leaf_bits != 0; }
};

const std::vector<Geometry>& geometries() {
  static const std::vector<Geometry> all{
      {"32-bit, 4 KiB", PagingMode::Bits32, {22, 12}, 4, 0, 0x0070'0000},
      {"32-bit, 4 MiB", PagingMode::Bits32, {22}, 4, kPs, 0x0080'0000},
      {"PAE, 4 KiB", PagingMode::Pae, {21, 12}, 8, 0, 0x0070'0000},
      {"PAE, 2 MiB", PagingMode::Pae, {21}, 8, kPs, 0x0080'0000},
      {"4-level, 4 KiB", PagingMode::FourLevel, {39, 30, 21, 12}, 8, 0, 0x0070'0000},
      {"4-level, 2 MiB", PagingMode::FourLevel, {39, 30, 21}, 8, kPs, 0x0080'0000},
      {"4-level, 1 GiB", PagingMode::FourLevel, {39, 30}, 8, kPs, 0x4000'0000},
  };
  return all;
}

/// Tables for one linear address, one page each from 0x10000 on.
class Tables {
 public:
  Tables(const Geometry& geometry, std::uint64_t linear) : geometry_(geometry), linear_(linear) {
    registers.mode = geometry.mode;
    registers.page_size_extensions = true;
    registers.page_1gb = true;
    registers.physical_address_bits = 40;
    registers.cr3 = kFirst;
    pdpte.fill(0);
    if (geometry.mode == PagingMode::Pae) pdpte[bits(linear, 31, 30)] = kFirst | kP;
    registers.pdpte = pdpte.data();
  }

  static constexpr GuestPhysical kFirst = 0x1'0000;
  std::unique_ptr<GuestMemory> ram = GuestMemory::create(16 << 20).value();
  GuestMemory& memory = *ram;
  PagingRegisters registers;
  std::array<std::uint64_t, 4> pdpte;

  GuestPhysical entry_address(std::size_t level) const {
    const std::uint64_t index = (linear_ >> geometry_.shifts[level]) & low_mask(geometry_.index_bits());
    return kFirst + level * 0x1000 + index * geometry_.entry_size;
  }
  /// An entry with these flags that leads to the next level or the frame.
  std::uint64_t make(std::size_t level, std::uint64_t flags) const {
    const bool leaf = level + 1 == geometry_.levels();
    return flags | (leaf ? geometry_.frame | geometry_.leaf_bits : kFirst + (level + 1) * 0x1000);
  }
  void set(std::size_t level, std::uint64_t value) {
    std::byte* target = memory.page(entry_address(level)) + (entry_address(level) & 0xFFF);
    if (geometry_.entry_size == 4) {
      store_le(target, static_cast<std::uint32_t>(value));
    } else {
      store_le(target, value);
    }
  }
  std::uint64_t get(std::size_t level) const {
    const std::byte* source = memory.page(entry_address(level)) + (entry_address(level) & 0xFFF);
    return geometry_.entry_size == 4 ? load_le<std::uint32_t>(source) : load_le<std::uint64_t>(source);
  }
  void set_all(std::uint64_t flags) {
    for (std::size_t level = 0; level < geometry_.levels(); ++level) set(level, make(level, flags));
  }
  WalkResult walk(bool write = false, bool fetch = false, bool user = false, bool user_pages = true) {
    return x86::walk(memory, registers, {linear_, write, fetch, user, user_pages});
  }
  std::uint64_t linear() const { return linear_; }

 private:
  const Geometry& geometry_;
  std::uint64_t linear_;
};

// SDM vol. 3, 4.6.1, in a table: what each access needs, for each kind of page. '+' always, '-' never, 'W' CR0.WP
// clear, 'E' CR4.SMEP clear, 'A' CR4.SMAP clear, 'B' both WP and SMAP clear. Columns: read, write, fetch by the user;
// by the supervisor; by the supervisor with EFLAGS.AC set.
struct Rights {
  bool user, writable, executable;
  std::string_view accesses;
};
constexpr std::array kRights{
    Rights{true, true, true, "+++AAE++E"},   Rights{true, true, false, "++-AA-++-"},
    Rights{true, false, true, "+-+ABE+WE"},  Rights{true, false, false, "+--AB-+W-"},
    Rights{false, true, true, "---++++++"},  Rights{false, true, false, "---++-++-"},
    Rights{false, false, true, "---+W++W+"}, Rights{false, false, false, "---+W-+W-"},
};

bool allowed(bool user, bool writable, bool executable, std::size_t access, const PagingRegisters& registers) {
  for (const Rights& rights : kRights) {
    if (rights.user != user || rights.writable != writable || rights.executable != executable) continue;
    switch (rights.accesses[access]) {
      case '+':
        return true;
      case 'W':
        return !registers.write_protect;
      case 'E':
        return !registers.smep;
      case 'A':
        return !registers.smap;
      case 'B':
        return !registers.smap && !registers.write_protect;
      default:
        return false;
    }
  }
  ADD_FAILURE() << "the table has no such page";
  return false;
}

/// The outcome that the manual demands: -1 for success, else the error code.
int expected_outcome(const Geometry& geometry, const std::vector<std::uint64_t>& flags,
                     const PagingRegisters& registers, std::size_t access) {
  const bool write = access % 3 == 1, fetch = access % 3 == 2, by_user = access < 3;
  const bool nxe = registers.no_execute && geometry.mode != PagingMode::Bits32;
  int code = (write ? 2 : 0) + (by_user ? 4 : 0) + (fetch && (nxe || registers.smep) ? 16 : 0);
  bool user = true, writable = true, executable = true;
  for (const std::uint64_t entry : flags) {
    if ((entry & kP) == 0) return code;
    if ((entry & kNx) != 0 && !registers.no_execute) return code + 1 + 8;
    user = user && (entry & kUs) != 0;
    writable = writable && (entry & kRw) != 0;
    executable = executable && (entry & kNx) == 0;
  }
  return allowed(user, writable, executable, access, registers) ? -1 : code + 1;
}

class PermissionTest : public ::testing::TestWithParam<std::size_t> {};

/// Every combination of the permission bits of every level, with every kind of access and every setting of WP, SMEP,
/// SMAP and NXE.
TEST_P(PermissionTest, EveryCombinationIsDecidedAsTheManualSays) {
  const Geometry& geometry = geometries()[GetParam()];
  Tables tables(geometry, geometry.mode == PagingMode::FourLevel ? 0x0000'1234'5678'9ABC : 0x8765'4321);
  const unsigned bits_per_level = geometry.mode == PagingMode::Bits32 ? 3 : 4;
  const unsigned combinations = 1U << (bits_per_level * geometry.levels());
  std::vector<std::uint64_t> flags(geometry.levels());
  std::uint64_t successes = 0;
  for (unsigned combination = 0; combination < combinations; ++combination) {
    for (std::size_t level = 0; level < geometry.levels(); ++level) {
      const unsigned chosen = combination >> (bits_per_level * level);
      flags[level] = (chosen & 1 ? kP : 0) | (chosen & 2 ? kRw : 0) | (chosen & 4 ? kUs : 0) |
                     (bits_per_level == 4 && (chosen & 8) != 0 ? kNx : 0);
    }
    for (unsigned setting = 0; setting < 16; ++setting) {
      tables.registers.write_protect = (setting & 1) != 0;
      tables.registers.smep = (setting & 2) != 0;
      tables.registers.smap = (setting & 4) != 0;
      tables.registers.no_execute = (setting & 8) != 0;
      for (std::size_t access = 0; access < 9; ++access) {
        const int expected = expected_outcome(geometry, flags, tables.registers, access);
        for (std::size_t level = 0; level < flags.size(); ++level) tables.set(level, tables.make(level, flags[level]));
        const bool write = access % 3 == 1;
        const WalkResult result = tables.walk(write, access % 3 == 2, access < 3, access >= 6);
        const int outcome = result.ok ? -1 : static_cast<int>(result.error_code);
        ASSERT_EQ(outcome, expected) << geometry.name << " combination " << combination << " setting " << setting
                                     << " access " << access;
        for (std::size_t level = 0; level < flags.size(); ++level) {
          const bool leaf = level + 1 == flags.size();
          const std::uint64_t marks = result.ok ? kA | (leaf && write ? kD : 0) : 0;
          ASSERT_EQ(tables.get(level), tables.make(level, flags[level]) | marks)
              << geometry.name << " combination " << combination << " setting " << setting << " access " << access
              << " level " << level;
        }
        if (!result.ok) continue;
        ++successes;
        ASSERT_EQ(result.physical, geometry.frame + (tables.linear() & low_mask(geometry.page_shift())));
        ASSERT_EQ(result.page_shift, geometry.page_shift());
      }
    }
  }
  EXPECT_GT(successes, 0U);
}

INSTANTIATE_TEST_SUITE_P(Geometries, PermissionTest, ::testing::Range<std::size_t>(0, 7),
                         [](const ::testing::TestParamInfo<std::size_t>& parameter) {
                           std::string name;
                           for (const char letter : geometries()[parameter.param].name) {
                             if (std::isalnum(static_cast<unsigned char>(letter)) != 0) name += letter;
                           }
                           return "Paging" + name;
                         });

/// The bits that the manual's figure 4-4 and tables 4-3 to 4-20 mark as reserved, with NXE set.
std::uint64_t reserved_bits(const Geometry& geometry, std::size_t level, unsigned maxphyaddr) {
  const bool leaf = level + 1 == geometry.levels();
  const auto range = [](unsigned high, unsigned low) { return low_mask(high + 1) & ~low_mask(low); };
  if (geometry.mode == PagingMode::Bits32) {
    if (!geometry.large()) return 0;
    switch (maxphyaddr) {  // M of PSE-36 is at most 40
      case 36:
        return range(21, 17);
      case 40:
      case 46:
        return range(21, 21);
      default:
        ADD_FAILURE();
        return 0;
    }
  }
  std::uint64_t reserved = geometry.mode == PagingMode::Pae ? range(62, maxphyaddr) : range(51, maxphyaddr);
  if (geometry.shifts[level] == 39) reserved |= range(7, 7);
  if (leaf && geometry.page_shift() == 30) reserved |= range(29, 13);
  if (leaf && geometry.page_shift() == 21) reserved |= range(20, 13);
  return reserved;
}

TEST(PagingWalk, ReservedBitsFaultOneByOne) {
  for (const Geometry& geometry : geometries()) {
    for (const unsigned maxphyaddr : {36U, 40U, 46U}) {
      Tables tables(geometry, 0x0040'3004);
      tables.registers.physical_address_bits = maxphyaddr;
      tables.registers.no_execute = true;
      for (std::size_t level = 0; level < geometry.levels(); ++level) {
        const std::uint64_t reserved = reserved_bits(geometry, level, maxphyaddr);
        for (unsigned number = 0; number < geometry.entry_size * 8; ++number) {
          if ((reserved & bit(number)) == 0) continue;
          tables.set_all(kP | kRw | kUs);
          tables.set(level, tables.make(level, kP | kRw | kUs) | bit(number));
          const WalkResult result = tables.walk(true, false, true);
          EXPECT_FALSE(result.ok) << geometry.name << " level " << level << " bit " << number;
          EXPECT_EQ(result.error_code, 15U) << geometry.name << " level " << level << " bit " << number;
          // Not present comes first: the bit is then nobody's business.
          tables.set(level, bit(number));
          EXPECT_EQ(tables.walk(true, false, true).error_code, 6U);
        }
      }
    }
  }
}

TEST(PagingWalk, BitsThatAreNotReservedDoNotFault) {
  for (const Geometry& geometry : geometries()) {
    Tables tables(geometry, 0x0040'3004);
    tables.registers.no_execute = true;
    const std::size_t last = geometry.levels() - 1;
    for (std::size_t level = 0; level <= last; ++level) {
      // G, and what is left to software; PAT.
      std::uint64_t harmless = 0xF00 | (level == last ? kG | (geometry.large() ? bit(12) : kPs) : 0);
      if (geometry.mode == PagingMode::FourLevel) harmless |= low_mask(63) & ~low_mask(52);
      for (unsigned number = 0; number < geometry.entry_size * 8; ++number) {
        if ((harmless & bit(number)) == 0) continue;
        tables.set_all(kP | kRw | kUs);
        tables.set(level, tables.make(level, kP | kRw | kUs) | bit(number));
        const WalkResult result = tables.walk();
        EXPECT_TRUE(result.ok) << geometry.name << " level " << level << " bit " << number;
        EXPECT_EQ(result.physical, geometry.frame | (0x0040'3004 & low_mask(geometry.page_shift())));
      }
    }
  }
}

TEST(PagingWalk, GigabytePagesNeedTheFeature) {
  const Geometry& geometry = geometries()[6];
  Tables tables(geometry, 0x0040'3004);
  tables.set_all(kP);
  EXPECT_TRUE(tables.walk().ok);
  tables.registers.page_1gb = false;
  EXPECT_EQ(tables.walk().error_code, 9U);
}

TEST(PagingWalk, FourMegabytePagesNeedPse) {
  Tables tables(geometries()[1], 0x0040'3004);
  tables.set_all(kP);
  tables.registers.page_size_extensions = false;
  // The entry is now a page table's; that page is empty.
  EXPECT_EQ(tables.walk().error_code, 0U);
}

TEST(PagingWalk, Pse36ReachesHighMemory) {
  Tables tables(geometries()[1], 0x0041'2345);
  tables.set(0, 0xFFC0'0000 | kPs | kP | std::uint64_t{0xA5} << 13);
  const WalkResult result = tables.walk();
  ASSERT_TRUE(result.ok);
  EXPECT_EQ(result.physical, 0xA5'FFC1'2345U);
}

TEST(PagingWalk, AbsentPdpteIsNotPresent) {
  Tables tables(geometries()[2], 0x0040'3004);
  tables.set_all(kP | kRw | kUs);
  tables.pdpte[0] &= ~kP;
  EXPECT_EQ(tables.walk(false, false, true).error_code, 4U);
}

TEST(PagingWalk, TablesOutsideRamReadAsOnes) {
  for (const Geometry& geometry : geometries()) {
    Tables tables(geometry, 0x0040'3004);
    tables.registers.cr3 = 0x2000'0000;
    tables.pdpte[0] = 0x2000'0000 | kP;
    const WalkResult result = tables.walk();
    if (geometry.entry_size == 8 || geometry.large()) {
      EXPECT_EQ(result.error_code, 9U) << geometry.name;
    }
  }
}

TEST(PagingWalk, GlobalNeedsPge) {
  Tables tables(geometries()[4], 0x0040'3004);
  tables.set_all(kP | kG);
  EXPECT_FALSE(tables.walk().global);
  tables.registers.global_pages = true;
  EXPECT_TRUE(tables.walk().global);
}

TEST(PagingWalk, MarkingAnEntryMarksItsPageDirtyAndDropsCodeInIt) {
  Tables tables(geometries()[4], 0x0040'3004);
  tables.set_all(kP | kRw);
  GuestMemory& memory = tables.memory;
  memory.dirty().collect();
  const std::uint64_t page = memory.page_index(tables.entry_address(3));
  memory.code().add_code(page, tables.entry_address(3) & 0xFFF, 8);
  const std::uint32_t generation = memory.code().generation(page);
  WalkResult result = tables.walk();
  EXPECT_TRUE(result.code_modified);
  EXPECT_NE(memory.code().generation(page), generation);
  EXPECT_TRUE(memory.dirty().is_dirty(page));
  memory.dirty().collect();
  result = tables.walk();
  EXPECT_FALSE(result.code_modified);
  EXPECT_FALSE(memory.dirty().is_dirty(page)) << "nothing was left to set";
}

TEST(PagingWalk, QuietlyLooksWithoutRightsOrMarks) {
  for (const Geometry& geometry : geometries()) {
    Tables tables(geometry, 0x0040'3004);
    tables.set_all(kP);
    GuestPhysical physical = 0;
    ASSERT_TRUE(walk_quietly(tables.memory, tables.registers, tables.linear(), physical));
    EXPECT_EQ(physical, geometry.frame | (0x0040'3004 & low_mask(geometry.page_shift())));
    for (std::size_t level = 0; level < geometry.levels(); ++level)
      EXPECT_EQ(tables.get(level), tables.make(level, kP));
    tables.set(geometry.levels() - 1, 0);
    EXPECT_FALSE(walk_quietly(tables.memory, tables.registers, tables.linear(), physical));
  }
}

/// Another processor counts in bits that belong to software, clearing A and D each time; a mark that was not set by
/// compare-exchange would lose a count.
TEST(PagingWalk, MarksDoNotUndoAnotherProcessorsChanges) {
  Tables tables(geometries()[4], 0x0040'3004);
  tables.set_all(kP | kRw);
  constexpr std::uint64_t kCount = bit(52), kRounds = 100'000;
  std::atomic<bool> done{false};
  std::thread other([&] {
    const GuestPhysical address = tables.entry_address(3);
    std::atomic_ref entry{*reinterpret_cast<std::uint64_t*>(tables.memory.page(address) + (address & 0xFFF))};
    for (std::uint64_t i = 0; i < kRounds; ++i) {
      std::uint64_t before = entry.load();
      while (!entry.compare_exchange_weak(before,
                                          (before & ~(kA | kD)) + (i % 2048 == 2047 ? 0 - 2047 * kCount : kCount))) {
      }
    }
    done = true;
  });
  while (!done) EXPECT_TRUE(tables.walk(true).ok);
  other.join();
  EXPECT_EQ(bits(tables.get(3), 62, 52), kRounds % 2048);
}

TEST(PagingRegisters, FollowFromTheControlRegisters) {
  CpuState state;
  state.cr0 = 1;
  EXPECT_EQ(PagingRegisters::of(state, 40, true).mode, PagingMode::None);
  state.cr0 |= cr0::kPg;
  EXPECT_EQ(PagingRegisters::of(state, 40, true).mode, PagingMode::Bits32);
  state.cr4 = cr4::kPae;
  EXPECT_EQ(PagingRegisters::of(state, 40, true).mode, PagingMode::Pae);
  state.efer = efer::kLme | efer::kLma;
  EXPECT_EQ(PagingRegisters::of(state, 40, true).mode, PagingMode::FourLevel);
}

TEST(PagingWalk, KnowsThePdptesReservedBits) {
  EXPECT_EQ(pdpte_reserved_bits(36), 0xFFFF'FFF0'0000'01E6U);
  EXPECT_EQ(pdpte_reserved_bits(40), 0xFFFF'FF00'0000'01E6U);
}

}  // namespace
}  // namespace doppel::x86
