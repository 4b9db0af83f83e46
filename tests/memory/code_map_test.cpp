#include "memory/code_map.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace doppel::memory {
namespace {

TEST(CodeMap, LineMaskCoversWhatTheRangeTouches) {
  EXPECT_EQ(CodeMap::line_mask(0, 1), 1U);
  EXPECT_EQ(CodeMap::line_mask(127, 1), 1U);
  EXPECT_EQ(CodeMap::line_mask(127, 2), 3U);
  EXPECT_EQ(CodeMap::line_mask(128, 128), 2U);
  EXPECT_EQ(CodeMap::line_mask(4095, 1), 0x80000000U);
  EXPECT_EQ(CodeMap::line_mask(0, 4096), 0xFFFFFFFFU);
}

TEST(CodeMap, WriteToCodeMovesTheGenerationAndTellsTheListener) {
  CodeMap map(4);
  std::vector<std::uint64_t> dropped;
  map.set_listener([&](std::uint64_t page) { dropped.push_back(page); });
  map.add_code(2, 200, 100);
  EXPECT_TRUE(map.has_code(2));
  const std::uint32_t generation = map.generation(2);

  EXPECT_FALSE(map.written(2, 0, 128)) << "line 0 holds no code";
  EXPECT_FALSE(map.written(2, 384, 3712)) << "lines from 3 on hold no code";
  EXPECT_FALSE(map.written(1, 200, 8)) << "another page";
  EXPECT_EQ(map.generation(2), generation);

  EXPECT_TRUE(map.written(2, 299, 1));
  EXPECT_NE(map.generation(2), generation);
  EXPECT_FALSE(map.has_code(2));
  EXPECT_EQ(dropped, std::vector<std::uint64_t>{2});
  EXPECT_FALSE(map.written(2, 299, 1)) << "nothing is left to drop";
}

TEST(CodeMap, CodeMayBeAddedAgainAfterADrop) {
  CodeMap map(1);
  map.add_code(0, 0, 16);
  EXPECT_TRUE(map.written(0, 0, 1));
  map.add_code(0, 0, 16);
  EXPECT_TRUE(map.written(0, 0, 1));
}

/// Whose barrier is the cheap one.
class CodeMapProtocol : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(WritersFence, CodeMapProtocol, testing::Bool());

// The protocol of the header under contention: what a decoder read stays true for as long as the generation does.
TEST_P(CodeMapProtocol, NoDecoderKeepsStaleCode) {
  CodeMap map(1);
  if (GetParam()) map.let_writers_fence();
  std::atomic<std::uint32_t> code{0};  // the guest's bytes at offset 0
  std::atomic<bool> done{false};
  std::atomic<int> stale{0};

  const auto decoder = [&] {
    while (!done.load(std::memory_order_relaxed)) {
      const std::uint32_t generation = map.generation(0);
      map.add_code(0, 0, 4);
      const std::uint32_t decoded = code.load(std::memory_order_relaxed);
      // Written by now, so written() has been, or will be, called for any other value; once the writer has said that it
      // is through with a value above `decoded`, the generation must have moved.
      const std::uint32_t finished = code.load(std::memory_order_acquire);
      if (finished > decoded + 1 && map.generation(0) == generation) stale.fetch_add(1);
    }
  };
  std::thread first(decoder);
  std::thread second(decoder);
  for (std::uint32_t value = 1; value <= 20000; ++value) {
    code.store(value, std::memory_order_release);
    map.written(0, 0, 4);
  }
  done = true;
  first.join();
  second.join();
  EXPECT_EQ(stale.load(), 0);
}

}  // namespace
}  // namespace doppel::memory
