#include "boot/ram_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "boot/kernel_images.h"
#include "boot/platform_layout.h"

namespace doppel::boot {
namespace {

using testing::HasSubstr;

class RamPlanTest : public testing::Test {
 protected:
  std::unique_ptr<memory::GuestMemory> memory_ = test::make_memory(64);
  RamPlan plan_{*memory_};
};

TEST_F(RamPlanTest, ClaimsMustLieInRam) {
  EXPECT_TRUE(plan_.claim(0x100'0000, 0x1000, "the kernel"));
  const Result<void> past = plan_.claim(0x3FF'F000, 0x2000, "the kernel");
  ASSERT_FALSE(past);
  EXPECT_THAT(past.error().message, HasSubstr("give the machine at least 65 MiB"));
  for (const std::uint64_t start : {std::uint64_t{0x400'0000}, std::uint64_t{0xFFFF'0000}, ~std::uint64_t{0} - 10}) {
    EXPECT_FALSE(plan_.claim(start, 0x1000, "x")) << std::hex << start;
  }
  EXPECT_FALSE(plan_.claim(0x20'0000, ~std::uint64_t{0}, "x"));
  EXPECT_THAT(plan_.claim(0xF000'0000, 1, "x").error().message, HasSubstr("no machine has RAM there"));
}

TEST_F(RamPlanTest, NothingOverlaps) {
  ASSERT_TRUE(plan_.claim(0x20'0000, 0x10'0000, "one"));
  EXPECT_THAT(plan_.claim(0x2F'FFFF, 1, "two").error().message, HasSubstr("would lie over one"));
  EXPECT_FALSE(plan_.claim(0x1F'FFFF, 2, "two"));
  EXPECT_TRUE(plan_.claim(0x1F'FFFF, 1, "two"));
  EXPECT_TRUE(plan_.claim(0x30'0000, 1, "three"));
  EXPECT_FALSE(plan_.claim(0x7000, 1, "over the boot information"));
  EXPECT_FALSE(plan_.claim(0xB'8000, 1, "over video memory"));
}

TEST_F(RamPlanTest, HighClaimsGoBelowTheLimitAndAroundOthers) {
  EXPECT_EQ(*plan_.claim_high(0x1800, 0x1000, ~std::uint64_t{0}, "a"), 0x3FF'E000U);
  EXPECT_EQ(*plan_.claim_high(0x1000, 0x1000, ~std::uint64_t{0}, "b"), 0x3FF'D000U);
  EXPECT_EQ(*plan_.claim_high(0x1000, 0x1000, 0x2FF'FFFF, "c"), 0x2FF'F000U);
  EXPECT_EQ(*plan_.claim_high(0x1000, 0x1000, 0x2FF'FFFE, "d"), 0x2FF'E000U);
  EXPECT_FALSE(plan_.claim_high(0x4000'0000, 0x1000, ~std::uint64_t{0}, "e"));
  EXPECT_FALSE(plan_.claim_high(0x1000, 0x1000, 0x2'0000, "f"));
}

TEST_F(RamPlanTest, PlacesFiles) {
  const test::Bytes file = test::pattern(5000);
  const Result<memory::GuestPhysical> at = plan_.place_file(file, plan_.end() - 1, "file");
  ASSERT_TRUE(at);
  const auto there = memory_->view(*at, file.size());
  EXPECT_TRUE(std::equal(file.begin(), file.end(), there.begin(), there.end()));
}

TEST(ZeroRam, ClearsExactlyItsRange) {
  const auto memory = test::make_memory(1);
  const test::Bytes ones(0x4000, std::byte{0xFF});
  memory->write(0x1000, ones);
  zero_ram(*memory, 0x1801, 0x2000);
  EXPECT_EQ(test::get<std::uint8_t>(*memory, 0x1800), 0xFF);
  for (std::uint64_t at = 0x1801; at < 0x3801; ++at) ASSERT_EQ(test::get<std::uint8_t>(*memory, at), 0) << at;
  EXPECT_EQ(test::get<std::uint8_t>(*memory, 0x3801), 0xFF);
}

TEST(ZeroRam, TakesNoPageOfTheHost) {
  const auto memory = memory::GuestMemory::create(1 << 20, memory::GuestMemory::Backing::Shareable);
  ASSERT_TRUE(memory);
  zero_ram(**memory, 0x1000, 0x8000);
  struct stat status {};
  ASSERT_EQ(::fstat((*memory)->shared_fd(), &status), 0);
  EXPECT_EQ(status.st_blocks, 0);
}

TEST(HumanSize, RoundsUp) {
  EXPECT_EQ(human_size(100), "100 bytes");
  EXPECT_EQ(human_size(1025), "2 KiB");
  EXPECT_EQ(human_size(64 << 20), "64 MiB");
  EXPECT_EQ(human_size((64 << 20) + 1), "65 MiB");
}

}  // namespace
}  // namespace doppel::boot
