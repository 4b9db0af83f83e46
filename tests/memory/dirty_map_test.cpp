#include "memory/dirty_map.h"

#include <gtest/gtest.h>

#include <thread>

namespace doppel::memory {
namespace {

TEST(DirtyMap, CollectsAscendingAndClears) {
  DirtyMap map(130);
  for (const std::uint64_t page : {129, 0, 64, 63, 0}) map.mark(page);
  EXPECT_TRUE(map.is_dirty(129));
  EXPECT_FALSE(map.is_dirty(128));
  EXPECT_EQ(map.collect(), (std::vector<std::uint64_t>{0, 63, 64, 129}));
  EXPECT_FALSE(map.is_dirty(129));
  EXPECT_TRUE(map.collect().empty());
}

TEST(DirtyMap, LosesNoMarkAmongThreads) {
  constexpr std::uint64_t kPages = 4096;
  DirtyMap map(kPages);
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (std::uint64_t start = 0; start < 4; ++start) {
    threads.emplace_back([&map, start] {
      for (std::uint64_t page = start; page < kPages; page += 4) map.mark(page);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(map.collect().size(), kPages);
}

TEST(DirtyMap, CollectsBits) {
  DirtyMap map(130);
  map.mark(1);
  map.mark(64);
  map.mark(129);
  EXPECT_EQ(map.collect_bits(), (std::vector<std::uint64_t>{2, 1, 2}));
  EXPECT_EQ(map.collect_bits(), (std::vector<std::uint64_t>{0, 0, 0}));
}

}  // namespace
}  // namespace doppel::memory
