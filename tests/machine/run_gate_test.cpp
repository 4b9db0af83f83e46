#include "machine/run_gate.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>
#include <vector>

namespace doppel::machine {
namespace {

// Two workers that go through the gate over and over, as vCPU threads do.
class Workers {
 public:
  Workers() : gate(2, [] {}) {
    for (std::atomic<unsigned>& count : passes) {
      threads_.emplace_back([this, &count] {
        while (gate.pass()) count.fetch_add(1);
      });
    }
  }
  ~Workers() {
    gate.end();
    for (std::thread& thread : threads_) thread.join();
  }
  void await_progress() {
    for (std::atomic<unsigned>& count : passes) {
      const unsigned before = count;
      while (count == before) std::this_thread::yield();
    }
  }

  RunGate gate;
  std::array<std::atomic<unsigned>, 2> passes{};

 private:
  std::vector<std::thread> threads_;
};

TEST(RunGate, HoldsEveryThreadWhileClosed) {
  Workers workers;
  workers.gate.open([] {});
  workers.await_progress();
  EXPECT_TRUE(workers.gate.close());
  const unsigned first = workers.passes[0];
  const unsigned second = workers.passes[1];
  std::this_thread::yield();
  EXPECT_EQ(workers.passes[0], first);
  EXPECT_EQ(workers.passes[1], second);
  workers.gate.open([] {});
  workers.await_progress();
}

TEST(RunGate, Nests) {
  Workers workers;
  bool opened = false;
  EXPECT_FALSE(workers.gate.close());  // it starts closed
  workers.gate.open([&opened] { opened = true; });
  EXPECT_FALSE(opened);
  EXPECT_TRUE(workers.gate.closed());
  workers.gate.open([&opened] { opened = true; });
  EXPECT_TRUE(opened);
  workers.await_progress();
}

TEST(RunGate, EndsThreadsThatWait) {
  const Workers workers;  // never opened: the destructor would hang if end() did not reach them
}

}  // namespace
}  // namespace doppel::machine
