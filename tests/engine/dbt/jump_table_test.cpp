#include "engine/dbt/jump_table.h"

#include <gtest/gtest.h>

#include <memory>

namespace doppel::engine::dbt {
namespace {

constexpr x86::LinearAddress kAddress = 0x5555'0001'2345, kSamePlace = kAddress + JumpTable::kEntries,
                             kThird = kAddress + 2 * JumpTable::kEntries;
constexpr memory::GuestPhysical kPage = 0x7000;

class JumpTableTest : public ::testing::Test {
 protected:
  std::unique_ptr<JumpTable::Entries> entries = std::make_unique<JumpTable::Entries>();
  JumpTable table;
  std::array<char, 4> code{};

  void SetUp() override { table.attach(entries.get()); }
};

TEST_F(JumpTableTest, two_addresses_of_one_place_are_both_found) {
  EXPECT_TRUE(table.put(kAddress, &code[0], kPage, false));
  EXPECT_TRUE(table.put(kSamePlace, &code[1], kPage + 0x1000, false));
  EXPECT_EQ(table.find(kAddress), &code[0]);
  EXPECT_EQ(table.find(kSamePlace), &code[1]);
}

TEST_F(JumpTableTest, of_three_the_last_two_are_found_at_least) {
  table.put(kAddress, &code[0], kPage, false);
  table.put(kSamePlace, &code[1], kPage + 0x1000, false);
  table.put(kThird, &code[2], kPage + 0x2000, false);
  EXPECT_EQ(table.find(kSamePlace), &code[1]);
  EXPECT_EQ(table.find(kThird), &code[2]);
}

TEST_F(JumpTableTest, what_was_displaced_is_dropped_with_its_page) {
  table.put(kAddress, &code[0], kPage, false);
  table.put(kSamePlace, &code[1], kPage + 0x1000, false);
  table.flush_page(kAddress);
  EXPECT_EQ(table.find(kAddress), nullptr);
  EXPECT_EQ(table.find(kSamePlace), &code[1]);
}

TEST_F(JumpTableTest, what_was_displaced_is_dropped_when_its_mapping_has_changed) {
  table.put(kAddress, &code[0], kPage, false);
  table.put(kSamePlace, &code[1], kPage + 0x1000, false);
  table.doubt_local();
  const x86::LinearAddress changed = x86::Tlb::page_of(kAddress);
  table.revalidate([changed](x86::LinearAddress linear, memory::GuestPhysical) { return linear != changed; });
  EXPECT_EQ(table.find(kAddress), nullptr);
  EXPECT_EQ(table.find(kSamePlace), &code[1]);
}

TEST_F(JumpTableTest, what_comes_beside_another_takes_no_place_of_others) {
  table.put(kSamePlace, &code[1], kPage + 0x1000, false);
  EXPECT_TRUE(table.put(kAddress + 1, &code[0], kPage, false));
  EXPECT_FALSE(table.put(kAddress + 1, &code[0], kPage, false));
  table.put_beside(kAddress, &code[2]);
  EXPECT_EQ(table.find(kSamePlace), &code[1]);
  EXPECT_EQ(table.find(kAddress), &code[2]);
  table.flush_page(kAddress);
  EXPECT_EQ(table.find(kAddress), nullptr);
  EXPECT_EQ(table.find(kAddress + 1), nullptr);
}

TEST_F(JumpTableTest, the_slots_of_what_is_never_found_stay_empty) {
  constexpr x86::LinearAddress kFirst = 0x5555'0000'0000;
  for (const x86::LinearAddress address : {kFirst, kFirst + JumpTable::kNowhere % JumpTable::kEntries}) {
    table.put(address, &code[0], kPage, false);
    EXPECT_EQ(table.find(address), nullptr);
  }
}

}  // namespace
}  // namespace doppel::engine::dbt
