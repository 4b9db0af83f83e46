#include "memory/heavy_barrier.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace doppel::memory {
namespace {

// Dekker's handshake with a light side (compiler barrier only) and a heavy side: never may both read the old value.
void expect_orders(HeavyBarrier barrier, int rounds) {
  std::atomic<int> light_flag{0};
  std::atomic<int> heavy_flag{0};
  std::atomic<int> started{0};
  std::atomic<int> light_saw{0};
  std::atomic<int> finished{0};

  std::thread light([&] {
    for (int round = 1; round <= rounds; ++round) {
      while (started.load(std::memory_order_acquire) != round) {
      }
      light_flag.store(round, std::memory_order_relaxed);
      std::atomic_signal_fence(std::memory_order_seq_cst);
      light_saw.store(heavy_flag.load(std::memory_order_relaxed), std::memory_order_relaxed);
      finished.store(round, std::memory_order_release);
    }
  });
  int both_missed = 0;
  for (int round = 1; round <= rounds; ++round) {
    started.store(round, std::memory_order_release);
    heavy_flag.store(round, std::memory_order_relaxed);
    barrier.run();
    const int heavy_saw = light_flag.load(std::memory_order_relaxed);
    while (finished.load(std::memory_order_acquire) != round) {
    }
    if (heavy_saw != round && light_saw.load(std::memory_order_relaxed) != round) ++both_missed;
  }
  light.join();
  EXPECT_EQ(both_missed, 0);
}

TEST(HeavyBarrier, BestMethodOrdersAStoreBeforeALoadInTheOtherThread) {
  expect_orders(HeavyBarrier(), 20000);
}

TEST(HeavyBarrier, SoDoesTheOneOfOldKernels) {
  expect_orders(HeavyBarrier(HeavyBarrier::Method::Global), 20);
}

TEST(HeavyBarrier, SoDoesTheOneOfSandboxes) {
  expect_orders(HeavyBarrier(HeavyBarrier::Method::Protection), 20000);
}

}  // namespace
}  // namespace doppel::memory
