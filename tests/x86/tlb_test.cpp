#include "x86/tlb.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>

namespace doppel::x86 {
namespace {

/// Random fills and flushes against a map of what may still be cached: the TLB may forget, never remember wrongly.
TEST(Tlb, NeverKeepsWhatWasFlushed) {
  struct Page {
    unsigned shift;
    bool global;
  };
  std::map<LinearAddress, Page> expected;
  const auto tlb = std::make_unique<Tlb>();
  std::atomic<std::uint32_t> lines{0};
  std::mt19937_64 random(1);
  std::uint64_t hits = 0;
  for (int round = 0; round < 200'000; ++round) {
    const LinearAddress page = (random() % 6000 << 12) + (random() % 3 << 30);
    const unsigned action = random() % 1000;
    if (action < 900) {
      const unsigned shift = (page >> 30) == 2 ? 30 : (page >> 22) % 2 == 1 ? 21 : 12;
      const bool global = (page >> 21) % 3 == 0;
      tlb->fill(page, {nullptr, page, &lines, shift, global, false});
      expected[page] = {shift, global};
    } else if (action < 996) {
      tlb->flush_page(page);
      std::erase_if(expected,
                    [&](const auto& item) { return item.first >> item.second.shift == page >> item.second.shift; });
    } else if (action < 999) {
      tlb->flush_non_global();
      std::erase_if(expected, [](const auto& item) { return !item.second.global; });
    } else {
      tlb->flush_all();
      expected.clear();
    }
    const LinearAddress probe = (random() % 6000 << 12) + (random() % 3 << 30);
    if (tlb->entry(probe).read_tag == probe) {
      ++hits;
      ASSERT_TRUE(expected.contains(probe)) << "round " << round;
      ASSERT_EQ(tlb->physical_page(probe), probe);
    }
  }
  EXPECT_GT(hits, 1000U);
  tlb->flush_all();
  for (std::size_t i = 0; i < Tlb::kEntries; ++i) EXPECT_EQ(tlb->entries()[i].read_tag, Tlb::kNoTag);
}

TEST(Tlb, KeepsGlobalPagesAndOthersInTheirSlots) {
  const auto tlb = std::make_unique<Tlb>();
  std::atomic<std::uint32_t> lines{0};
  tlb->fill(0x1000, {nullptr, 0x9000, &lines, 12, true, true});
  tlb->fill(0x2000, {nullptr, 0xA000, &lines, 12, false, false});
  EXPECT_EQ(tlb->entry(0x1FFF).write_tag, 0x1000U);
  EXPECT_EQ(tlb->entry(0x2FFF).write_tag, Tlb::kNoTag);
  tlb->flush_non_global();
  EXPECT_EQ(tlb->entry(0x1000).read_tag, 0x1000U);
  EXPECT_EQ(tlb->entry(0x2000).read_tag, Tlb::kNoTag);
}

}  // namespace
}  // namespace doppel::x86
