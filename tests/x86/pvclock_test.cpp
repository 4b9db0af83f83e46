#include "x86/pvclock.h"

#include <gtest/gtest.h>

#include "x86/fake_platform.h"
#include "x86/msr.h"
#include "x86/msr_numbers.h"

namespace doppel::x86 {
namespace {

class PvclockTest : public test::CpuTest {
 protected:
  static constexpr std::uint64_t kInfo = 0x3000, kWall = 0x3100;

  /// What a guest computes from its structure; Linux, arch/x86/include/asm/pvclock.h.
  std::uint64_t guest_time(std::uint64_t tsc) {
    const auto shift = static_cast<std::int8_t>(peek_physical<std::uint8_t>(kInfo + 28));
    std::uint64_t delta = tsc - peek_physical<std::uint64_t>(kInfo + 8);
    delta = shift >= 0 ? delta << shift : delta >> -shift;
    const std::uint64_t mul = peek_physical<std::uint32_t>(kInfo + 24);
    return peek_physical<std::uint64_t>(kInfo + 16) + (delta >> 32) * mul + ((delta & 0xFFFF'FFFF) * mul >> 32);
  }
};

TEST_F(PvclockTest, TurnsTheTscIntoNanosecondsExactly) {
  clock.resume();
  write_msr(cpu, msr::kKvmSystemTimeNew, kInfo | 1);
  clock.pause();
  const std::uint64_t now = static_cast<std::uint64_t>(clock.now());
  EXPECT_EQ(guest_time(cpu.tsc()), now);
  for (const std::uint64_t later : {1ULL, 999ULL, 1'000'000'007ULL, 86'400'000'000'000ULL * 365})
    EXPECT_EQ(guest_time(cpu.tsc() + later), now + later);
}

TEST_F(PvclockTest, FollowsAMovedTsc) {
  write_msr(cpu, msr::kKvmSystemTimeNew, kInfo | 1);
  write_msr(cpu, msr::kTscAdjust, 123'456);
  EXPECT_EQ(guest_time(cpu.tsc()), static_cast<std::uint64_t>(clock.now()));
}

TEST_F(PvclockTest, VersionsMoveByTwoAndFlagsSayWhatHappened) {
  write_msr(cpu, msr::kKvmSystemTimeNew, kInfo | 1);
  EXPECT_EQ(peek_physical<std::uint32_t>(kInfo), 2U);
  EXPECT_EQ(peek_physical<std::uint8_t>(kInfo + 29), 1U);
  update_system_time(cpu, true);
  EXPECT_EQ(peek_physical<std::uint32_t>(kInfo), 4U);
  EXPECT_EQ(peek_physical<std::uint8_t>(kInfo + 29), 3U);
}

TEST_F(PvclockTest, WritesNothingWhileDisabled) {
  poke_physical<std::uint64_t>(kInfo, 0x5555'5555'5555'5555);
  write_msr(cpu, msr::kKvmSystemTimeNew, kInfo);
  update_system_time(cpu, false);
  update_wall_clock(cpu);
  EXPECT_EQ(peek_physical<std::uint64_t>(kInfo), 0x5555'5555'5555'5555U);
}

TEST_F(PvclockTest, TheWallClockIsTheTimeAtZero) {
  io.wall_clock = 1'700'000'000'123'456'789;
  write_msr(cpu, msr::kKvmWallClockNew, kWall);
  EXPECT_EQ(peek_physical<std::uint32_t>(kWall), 2U);
  EXPECT_EQ(peek_physical<std::uint32_t>(kWall + 4), 1'700'000'000U);
  EXPECT_EQ(peek_physical<std::uint32_t>(kWall + 8), 123'456'789U);
}

TEST_F(PvclockTest, AnAddressOutsideRamHarmsNobody) {
  EXPECT_FAULT(kNoFault, write_msr(cpu, msr::kKvmSystemTimeNew, 0xF000'0000'0001));
  EXPECT_FAULT(kNoFault, write_msr(cpu, msr::kKvmSystemTimeNew, (kRamSize - 8) | 1));
  EXPECT_FAULT(kNoFault, write_msr(cpu, msr::kKvmWallClockNew, ~std::uint64_t{0}));
}

}  // namespace
}  // namespace doppel::x86
