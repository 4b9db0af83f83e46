#include "boot/e820.h"

#include <gtest/gtest.h>

#include "boot/kernel_images.h"
#include "boot/platform_layout.h"

namespace doppel::boot {
namespace {

class E820 : public testing::TestWithParam<std::uint64_t> {};

TEST_P(E820, IsAscendingAndTellsAllRamButTheReservedParts) {
  const auto memory = test::make_memory(GetParam());
  const std::vector<E820Entry> map = build_e820(*memory);
  std::uint64_t ram = 0, previous_end = 0;
  for (const E820Entry& entry : map) {
    EXPECT_GE(entry.address, previous_end);
    EXPECT_GT(entry.size, 0U);
    previous_end = entry.end();
    if (entry.type != E820Type::Ram) continue;
    ram += entry.size;
    EXPECT_NE(memory->page(entry.address), nullptr);
    EXPECT_NE(memory->page(entry.end() - 1), nullptr);
    EXPECT_TRUE(entry.end() <= memory::kPciHoleStart || entry.address >= memory::kPciHoleEnd);
    EXPECT_TRUE(entry.end() <= layout::kEbda || entry.address >= layout::kHighMemory);
  }
  EXPECT_EQ(ram, memory->size() - (layout::kHighMemory - layout::kEbda));
  EXPECT_EQ(previous_end, std::max<std::uint64_t>(memory->end(), layout::kPciEcamBase + layout::kPciEcamBytes));
}

TEST_P(E820, ReservesTheTables) {
  const auto memory = test::make_memory(GetParam());
  for (const std::uint64_t address :
       {layout::kEbda, layout::kAcpiTables, layout::kVmGenId, layout::kSmbios, layout::kPciEcamBase}) {
    bool reserved = false;
    for (const E820Entry& entry : build_e820(*memory)) {
      reserved |= entry.type == E820Type::Reserved && address >= entry.address && address < entry.end();
    }
    EXPECT_TRUE(reserved) << std::hex << address;
  }
}

INSTANTIATE_TEST_SUITE_P(Mebibytes, E820, testing::Values(1, 64, 128, 1024, 3071, 3072, 3073, 6144));

}  // namespace
}  // namespace doppel::boot
