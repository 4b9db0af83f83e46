#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

#include "devices/virtio/block.h"
#include "fuzz/virtio_fuzz.h"

namespace {

using namespace doppel;
using storage::BlockOperation;
using storage::BlockRequest;

/// Answers at once, or late in another thread; insists on requests that are inside the disk and the guest's memory.
class Disk : public storage::BlockDevice {
 public:
  Disk(const memory::GuestMemory& memory, std::uint8_t kind)
      : ram_(memory.device_view(0, test::VirtioDriver::kMemory)) {
    traits_.capacity = std::uint64_t{1} << 20;
    traits_.can_discard = traits_.can_write_zeroes = (kind & 1) == 0;
    traits_.read_only = (kind & 2) != 0;
    traits_.block_size = (kind & 4) != 0 ? 4096 : 512;
    traits_.max_discard = (kind & 8) != 0 ? 65536 : 0;
  }
  ~Disk() override {
    if (!thread_.joinable()) return;
    {
      const std::lock_guard guard(mutex_);
      ends_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  const storage::BlockTraits& traits() const override { return traits_; }
  std::uint64_t capacity() const override { return traits_.capacity; }
  void submit(BlockRequest& request) override {
    if (request.offset > capacity() || request.length > capacity() - request.offset) std::abort();
    if ((request.offset | request.length) % traits_.block_size != 0) std::abort();
    const bool transfers = request.operation == BlockOperation::Read || request.operation == BlockOperation::Write;
    if (request.operation != BlockOperation::Read && request.operation != BlockOperation::Flush && traits_.read_only) {
      std::abort();
    }
    std::uint64_t total = 0;
    for (const iovec& vector : request.buffers) {
      const auto* const begin = static_cast<const std::byte*>(vector.iov_base);
      if (begin < ram_.data() || vector.iov_len > static_cast<std::size_t>(ram_.data() + ram_.size() - begin)) {
        std::abort();
      }
      total += vector.iov_len;
    }
    if (transfers && total != request.length) std::abort();
    if (request.offset / traits_.block_size % 4 != 3) return answer(request);
    const std::lock_guard guard(mutex_);
    late_.push_back(&request);
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
    changed_.notify_all();
  }
  void drain() override {}

 private:
  void run() {
    std::unique_lock guard(mutex_);
    for (;;) {
      changed_.wait(guard, [this] { return ends_ || !late_.empty(); });
      if (late_.empty()) return;
      BlockRequest* const request = late_.back();
      late_.pop_back();
      guard.unlock();
      answer(*request);
      guard.lock();
    }
  }
  static void answer(BlockRequest& request) {
    if (request.operation == BlockOperation::Read) {
      for (const iovec& vector : request.buffers) std::memset(vector.iov_base, 1, vector.iov_len);
    }
    constexpr int kErrors[] = {0, 0, EIO, EOPNOTSUPP};
    request.done(request, kErrors[request.offset / 512 / 4 % 4]);
  }

  const std::span<std::byte> ram_;
  storage::BlockTraits traits_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<BlockRequest*> late_;
  bool ends_ = false;
  std::thread thread_;
};

}  // namespace

/// Drivers of disks of all kinds; the first byte chooses one.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto& memory = fuzz::quiet_memory();
  fuzz::Input input({data, size});
  const std::uint8_t kind = input.byte();
  const unsigned queues = 1 + kind / 16 % 4;
  devices::virtio::Block device({.name = "fuzz", .serial = "s", .queues = static_cast<std::uint16_t>(queues)},
                                std::make_unique<Disk>(memory, kind), memory);
  fuzz::VirtioFuzz(device, memory, queues, [&device](fuzz::Input&) { device.capacity_changed(); }).run(input);
  return 0;
}
