// Many requests at once, to different parts of the same clusters, by each way of I/O.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>

#include "base/temporary_directory.h"
#include "storage/disk.h"
#include "storage/open.h"
#include "storage/qcow2/create.h"
#include "storage/tools.h"

namespace doppel::storage {
namespace {

struct Case {
  const char* name;
  const char* options;
  DiskOptions::Aio aio;
  CacheMode cache;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

class Concurrency : public testing::TestWithParam<Case> {};

/// A guest's queue: up to 16 requests in flight on the blocks that are its own, which lie between everybody else's.
class Queue {
 public:
  static constexpr std::uint64_t kBlock = 4096;

  Queue(BlockDevice& disk, std::vector<std::byte>& truth, unsigned index, unsigned count)
      : disk_(disk), truth_(truth), index_(index), count_(count), random_(index + 1), slots_(16) {
    for (Slot& slot : slots_) {
      slot.bytes.resize(kBlock);
      slot.piece = as_iovec(std::span(slot.bytes));
      slot.buffers = {&slot.piece, 1};
      slot.done = [](BlockRequest& request, int error) {
        auto& finished = static_cast<Slot&>(request);
        finished.error = error;
        finished.busy.store(false, std::memory_order_release);
        finished.busy.notify_one();
      };
    }
  }

  void run(int rounds) {
    for (int i = 0; i < rounds; ++i) {
      Slot& slot = slots_[random_() % slots_.size()];
      finish(slot);
      start(slot);
    }
    for (Slot& slot : slots_) finish(slot);
  }

  std::atomic<int> wrong = 0;

 private:
  struct Slot : BlockRequest {
    std::vector<std::byte> bytes;
    iovec piece{};
    int error = 0;
    std::atomic<bool> busy = false;
    bool started = false;
  };

  void finish(Slot& slot) {
    slot.busy.wait(true, std::memory_order_acquire);
    if (!slot.started) return;
    slot.started = false;
    const auto truth = std::span(truth_).subspan(slot.offset, slot.operation == BlockOperation::Flush ? 0 : kBlock);
    if (slot.error != 0) ++wrong;
    if (slot.operation == BlockOperation::Read && !std::ranges::equal(slot.bytes, truth)) ++wrong;
    if (slot.operation == BlockOperation::Write) std::ranges::copy(slot.bytes, truth.begin());
    if (slot.operation == BlockOperation::WriteZeroes) std::ranges::fill(truth, std::byte{0});
  }

  void start(Slot& slot) {
    constexpr BlockOperation kOperations[] = {BlockOperation::Write, BlockOperation::Write,      BlockOperation::Write,
                                              BlockOperation::Read,  BlockOperation::Read,       BlockOperation::Read,
                                              BlockOperation::Flush, BlockOperation::WriteZeroes};
    slot.operation = kOperations[random_() % std::size(kOperations)];
    slot.offset = 0;
    slot.length = 0;
    slot.may_unmap = random_() % 2 == 0;
    slot.durable = random_() % 8 == 0;
    if (slot.operation != BlockOperation::Flush) {
      const std::uint64_t blocks = truth_.size() / kBlock / count_;
      slot.offset = (random_() % blocks * count_ + index_) * kBlock;
      slot.length = kBlock;
      // A guest does not overlap its own requests either.
      for (Slot& other : slots_) {
        if (&other != &slot && other.offset == slot.offset) finish(other);
      }
    }
    if (slot.operation == BlockOperation::Write) {
      std::ranges::fill(slot.bytes, static_cast<std::byte>(random_()));
    }
    slot.error = 0;
    slot.started = true;
    slot.busy = true;
    disk_.submit(slot);
  }

  BlockDevice& disk_;
  std::vector<std::byte>& truth_;
  const unsigned index_, count_;
  std::mt19937_64 random_;
  std::vector<Slot> slots_;
};

TEST_P(Concurrency, RequestsDoNotDisturbEachOther) {
  constexpr std::uint64_t kSize = 16 << 20;
  constexpr unsigned kQueues = 4;
  const test::TemporaryDirectory directory;
  const std::string path = directory / "disk.qcow2";
  std::vector<std::byte> truth(kSize);
  for (std::size_t i = 0; i < truth.size(); ++i) truth[i] = static_cast<std::byte>(i / 4096 + i % 7);
  std::ofstream(directory / "base.raw", std::ios::binary)
      .write(reinterpret_cast<const char*>(truth.data()), static_cast<long>(truth.size()));
  test::must_run({"qemu-img", "create", "-q", "-f", "qcow2", "-o", GetParam().options, "-b", directory / "base.raw",
                  "-F", "raw", path});
  for (int life = 0; life < 2; ++life) {
    DiskOptions options;
    options.format = "qcow2";
    options.aio = GetParam().aio;
    options.cache = GetParam().cache;
    auto disk = open_disk(path, options);
    ASSERT_TRUE(disk) << disk.error().message;
    std::vector<std::unique_ptr<Queue>> queues;
    for (unsigned i = 0; i < kQueues; ++i) queues.push_back(std::make_unique<Queue>(**disk, truth, i, kQueues));
    std::vector<std::thread> threads;
    threads.reserve(queues.size());
    for (auto& queue : queues) threads.emplace_back([&queue] { queue->run(1500); });
    for (std::thread& thread : threads) thread.join();
    (*disk)->drain();
    for (auto& queue : queues) EXPECT_EQ(queue->wrong, 0);
  }
  EXPECT_NO_THROW(test::must_run({"qemu-img", "check", path}));
  EXPECT_TRUE(test::contents_by_qemu(path, "qcow2", directory / "scratch") == truth);
}

INSTANTIATE_TEST_SUITE_P(
    Ways, Concurrency,
    testing::Values(Case{"uring", "compat=1.1", DiskOptions::Aio::Auto, CacheMode::Writeback},
                    Case{"uring_direct", "compat=1.1", DiskOptions::Aio::Auto, CacheMode::None},
                    Case{"threads", "compat=1.1", DiskOptions::Aio::Threads, CacheMode::Writeback},
                    Case{"threads_direct", "compat=1.1,cluster_size=16k", DiskOptions::Aio::Threads, CacheMode::None},
                    Case{"extended", "extended_l2=on,cluster_size=128k", DiskOptions::Aio::Auto, CacheMode::Writeback},
                    Case{"lazy", "lazy_refcounts=on", DiskOptions::Aio::Auto, CacheMode::Writeback},
                    Case{"small", "cluster_size=512", DiskOptions::Aio::Auto, CacheMode::Writeback}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace doppel::storage
