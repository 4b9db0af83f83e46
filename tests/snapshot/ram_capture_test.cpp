#include "snapshot/ram_capture.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <map>
#include <thread>
#include <vector>

#include "base/bits.h"

namespace doppel::snapshot {
namespace {

using memory::GuestMemory;
using memory::kPageSize;

constexpr std::uint64_t kBytes = std::uint64_t{4} << 20;
constexpr std::uint64_t kPages = kBytes / kPageSize;

class RamCaptureTest : public testing::Test {
 protected:
  RamCaptureTest() { memory->set_write_observer(&capture); }

  /// Stamps a page with a value, at both ends.
  void stamp(std::uint64_t page, std::uint64_t value) {
    memory->write_value(page * kPageSize, value);
    memory->write_value((page + 1) * kPageSize - sizeof value, value);
  }
  static std::uint64_t stamp_of(std::span<const std::byte> contents) {
    const auto first = load_le<std::uint64_t>(contents.data());
    EXPECT_EQ(first, load_le<std::uint64_t>(&contents[kPageSize - sizeof first])) << "half a page";
    return first;
  }
  RamCapture::Sink sink() {
    return [this](std::uint64_t page, std::span<const std::byte> contents) -> Result<void> {
      EXPECT_TRUE(taken.emplace(page, stamp_of(contents)).second) << "page " << page << " twice";
      return {};
    };
  }

  std::unique_ptr<GuestMemory> memory = *GuestMemory::create(kBytes);
  RamCapture capture{*memory};
  const RamCapture::PageBits all = RamCapture::PageBits(kPages / 64, ~std::uint64_t{0});
  std::map<std::uint64_t, std::uint64_t> taken;
};

TEST_F(RamCaptureTest, GivesPagesAsTheyWereAtTheInstant) {
  for (std::uint64_t page = 0; page < kPages; ++page) stamp(page, page + 1);
  capture.begin(all);
  for (std::uint64_t page = 0; page < kPages; page += 3) stamp(page, 0xBAD);
  ASSERT_TRUE(capture.write(sink()));
  ASSERT_EQ(taken.size(), kPages);
  for (const auto& [page, value] : taken) EXPECT_EQ(value, page + 1);
}

TEST_F(RamCaptureTest, TakesOnlyWhatWasWanted) {
  RamCapture::PageBits some(kPages / 64);
  some[1] = 0b1010;
  capture.begin(some);
  stamp(65, 7);
  stamp(66, 7);
  ASSERT_TRUE(capture.write(sink()));
  EXPECT_EQ(taken, (std::map<std::uint64_t, std::uint64_t>{{65, 0}, {67, 0}}));
}

TEST_F(RamCaptureTest, WritersOnOtherThreadsLoseAndSpoilNothing) {
  for (int round = 0; round < 20; ++round) {
    for (std::uint64_t page = 0; page < kPages; ++page) stamp(page, 1);
    capture.begin(all);
    taken.clear();
    std::atomic<bool> stop = false;
    std::vector<std::thread> writers;
    for (std::uint64_t first : {0, 1}) {
      writers.emplace_back([this, first, &stop] {
        for (std::uint64_t page = first; !stop; page = (page + 7) % kPages) stamp(page, 2);
      });
    }
    ASSERT_TRUE(capture.write(sink()));
    stop = true;
    for (std::thread& writer : writers) writer.join();
    ASSERT_EQ(taken.size(), kPages);
    for (const auto& [page, value] : taken) ASSERT_EQ(value, 1U) << "page " << page;
  }
}

TEST_F(RamCaptureTest, AnErrorEndsItAndFreesTheWriters) {
  capture.begin(all);
  std::atomic<bool> stop = false;
  std::thread writer([this, &stop] {
    for (std::uint64_t page = 0; !stop; page = (page + 1) % kPages) stamp(page, 2);
  });
  unsigned given = 0;
  const Result<void> written = capture.write([&given](std::uint64_t, std::span<const std::byte>) -> Result<void> {
    if (++given == 10) return Error{"the disk is full"};
    return {};
  });
  EXPECT_FALSE(written);
  stop = true;
  writer.join();
  for (std::uint64_t page = 0; page < kPages; ++page) stamp(page, 3);
  capture.begin(all);
  ASSERT_TRUE(capture.write(sink())) << "and the next one works";
  EXPECT_EQ(taken.size(), kPages);
}

TEST_F(RamCaptureTest, DiscardedAndClearedMemoryIsSavedBefore) {
  stamp(5, 11);
  stamp(6, 12);
  capture.begin(all);
  ASSERT_TRUE(memory->discard(5 * kPageSize, kPageSize));
  ASSERT_TRUE(capture.write(sink()));
  EXPECT_EQ(taken[5], 11U);
  EXPECT_EQ(taken[6], 12U);
}

}  // namespace
}  // namespace doppel::snapshot
