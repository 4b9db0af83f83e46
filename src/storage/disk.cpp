#include "storage/disk.h"

#include <fmt/format.h>
#include <sys/uio.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <condition_variable>
#include <ctime>
#include <mutex>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/system_error.h"
#include "storage/async_io.h"
#include "storage/copy_apart.h"
#include "storage/open.h"
#include "storage/worker_pool.h"

namespace doppel::storage {
namespace {

constexpr std::uint32_t kBlockSize = 512;
/// A buffered write that took longer was held up by the kernel's dirty limit; for a while others then write.
constexpr std::uint64_t kHeldUpNs = 5'000'000;
constexpr std::uint64_t kHeldUpPauseNs = 500'000'000;

std::uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

class ImageDisk final : public Disk {
 public:
  ImageDisk(std::shared_ptr<Image> image, const DiskOptions& options, std::unique_ptr<AsyncIo> uring)
      : image_(std::move(image)),
        copy_apart_(copying_threads()),
        workers_(options.workers),
        io_(uring ? std::move(uring) : make_thread_io(workers_)),
        copiers_(copying_threads()) {
    const auto cluster = static_cast<std::uint32_t>(image_->cluster_size());
    traits_.capacity = image_->size();
    traits_.block_size = kBlockSize;
    traits_.optimal_size = std::max<std::uint32_t>(cluster, 4096);
    traits_.read_only = image_->read_only();
    traits_.can_discard = options.discard && !traits_.read_only;
    traits_.can_write_zeroes = !traits_.read_only;
    traits_.discard_granularity = std::max<std::uint32_t>(cluster, 4096);
    traits_.max_discard = std::uint64_t{1} << 30;
  }

  ~ImageDisk() override {
    drain();
    image_->flush();
  }

  const BlockTraits& traits() const override { return traits_; }
  std::uint64_t capacity() const override { return image_->size(); }

  void submit(BlockRequest& request) override {
    begin();
    if (const int error = refuse(request); error != 0) {
      finish(request, error);
    } else if (request.operation == BlockOperation::Flush && image_->is_flushed()) {
      finish(request, 0);
    } else if (!start_plain(request)) {
      workers_.run([this, &request] { finish(request, perform(request)); });
    }
  }

  std::shared_ptr<Image> image() const override { return image_; }
  void replace_image(std::shared_ptr<Image> image) override {
    drain();
    image_ = std::move(image);
  }

  void drain() override {
    std::unique_lock guard(mutex_);
    idle_.wait(guard, [this] { return in_flight_ == 0; });
  }

 private:
  /// A Read or Write that is nothing but file I/O, in one or more pieces.
  struct Plain {
    struct Piece : FileIo {
      Plain* whole = nullptr;
      bool is_apart = false;
    };
    ImageDisk* disk = nullptr;
    BlockRequest* request = nullptr;
    Located located;
    std::vector<Piece> pieces;
    std::atomic<std::size_t> left = 0;
    std::atomic<int> error = 0;
  };

  int refuse(const BlockRequest& request) const {
    if (request.operation == BlockOperation::Flush) return 0;
    const std::uint64_t capacity = image_->size();
    if (request.offset % kBlockSize != 0 || request.length % kBlockSize != 0) return EINVAL;
    if (request.offset > capacity || request.length > capacity - request.offset) return EINVAL;
    if (request.operation == BlockOperation::Read) return total_size(request.buffers) == request.length ? 0 : EINVAL;
    if (traits_.read_only) return EROFS;
    if (request.operation == BlockOperation::Write && total_size(request.buffers) != request.length) return EINVAL;
    return 0;
  }

  /// The whole request, waiting. On a worker.
  int perform(const BlockRequest& request) {
    int error = 0;
    switch (request.operation) {
      case BlockOperation::Read:
        return image_->read(request.offset, request.buffers);
      case BlockOperation::Flush:
        return image_->flush();
      case BlockOperation::Discard:
        return traits_.can_discard ? image_->discard(request.offset, request.length) : 0;
      case BlockOperation::Write:
        error = image_->write(request.offset, request.buffers);
        break;
      case BlockOperation::WriteZeroes:
        error = image_->write_zeroes(request.offset, request.length, request.may_unmap && traits_.can_discard);
        break;
    }
    return error == 0 && request.durable ? image_->flush() : error;
  }

  /// Serves a request by plain file I/O, at once if that needs no wait. False: not possible.
  bool start_plain(BlockRequest& request) {
    const bool is_write = request.operation == BlockOperation::Write;
    if (!is_write && request.operation != BlockOperation::Read) return false;
    if (is_write && request.durable) return false;
    if (request.length == 0) {
      finish(request, 0);
      return true;
    }
    Located located;
    if (!image_->locate(is_write, request.offset, request.length, located)) return false;
    auto plain = std::make_unique<Plain>();
    plain->disk = this;
    plain->request = &request;
    std::uint64_t at = 0;
    for (const FileRun& run : located.runs) {
      std::vector<iovec> buffers = slice(request.buffers, at, run.length);
      at += run.length;
      if (run.file == nullptr) {
        fill_zero(buffers);
        continue;
      }
      const bool is_apart = goes_through_cache(run, is_write, buffers) && copy_apart_.begin(is_write, run.length);
      if (!is_apart && done_at_once(run, is_write, buffers)) continue;
      Plain::Piece piece;
      piece.is_apart = is_apart;
      piece.file = run.file;
      piece.is_write = is_write;
      piece.offset = run.file_offset;
      piece.buffers = std::move(buffers);
      piece.whole = plain.get();
      piece.done = [](FileIo& io, int error) { piece_done(*static_cast<Plain::Piece&>(io).whole, error); };
      plain->pieces.push_back(std::move(piece));
    }
    if (plain->pieces.empty()) {
      if (is_write) image_->note_written();
      located.holds.clear();
      finish(request, 0);
      return true;
    }
    plain->located = std::move(located);
    plain->left = plain->pieces.size();
    // The last piece to complete frees the whole, maybe before start() returns.
    Plain* const whole = plain.release();
    const std::size_t count = whole->pieces.size();
    for (std::size_t i = 0; i < count; ++i) {
      Plain::Piece& piece = whole->pieces[i];
      piece.is_apart ? copy_apart(piece) : io_->start(piece);
    }
    return true;
  }

  /// Leaves to another thread what start_plain() would otherwise do at once.
  void copy_apart(Plain::Piece& piece) {
    copiers_.run([this, &piece] {
      const bool done =
          done_at_once({piece.file, piece.offset, total_size(piece.buffers)}, piece.is_write, piece.buffers);
      copy_apart_.ended();
      done ? piece.done(piece, 0) : io_->start(piece);
    });
  }

  static void piece_done(Plain& plain, int error) {
    if (error != 0) plain.error = error;
    if (plain.left.fetch_sub(1) != 1) return;
    const std::unique_ptr<Plain> owned(&plain);
    ImageDisk& disk = *plain.disk;
    if (plain.request->operation == BlockOperation::Write) disk.image_->note_written();
    plain.located.holds.clear();
    disk.finish(*plain.request, plain.error);
  }

  /// One for each processor but the guest's.
  static unsigned copying_threads() {
    constexpr unsigned kMost = 4;
    return std::min(std::max(std::thread::hardware_concurrency(), 1U) - 1, kMost);
  }

  /// Whether it can be tried to have the page cache serve it.
  bool goes_through_cache(const FileRun& run, bool is_write, Buffers buffers) const {
    if (!run.file->cached() || buffers.size() > IOV_MAX) return false;
    return !is_write || now_ns() >= held_up_until_.load(std::memory_order_relaxed);
  }

  /// Whether the page cache had, or took, all of it.
  bool done_at_once(const FileRun& run, bool is_write, Buffers buffers) {
    if (!goes_through_cache(run, is_write, buffers)) return false;
    const int fd = run.file->descriptor(run.file_offset, buffers);
    if (fd < 0) return false;
    const auto count = static_cast<int>(buffers.size());
    const auto offset = static_cast<off_t>(run.file_offset);
    if (!is_write) {
      const ssize_t got = ::preadv2(fd, buffers.data(), count, offset, RWF_NOWAIT);
      return got >= 0 && static_cast<std::uint64_t>(got) == run.length;
    }
    const std::uint64_t start = now_ns();
    const ssize_t put = ::pwritev(fd, buffers.data(), count, offset);
    const std::uint64_t end = now_ns();
    if (end - start > kHeldUpNs) held_up_until_.store(end + kHeldUpPauseNs, std::memory_order_relaxed);
    return put >= 0 && static_cast<std::uint64_t>(put) == run.length;
  }

  void begin() {
    const std::lock_guard guard(mutex_);
    ++in_flight_;
  }

  void finish(BlockRequest& request, int error) {
    // Once: a guest may try again and again. What is refused is its own doing.
    if (error != 0 && error != EINVAL && error != EROFS && !told_error_.exchange(true)) {
      log::error("storage", "{}",
                 system_error(fmt::format("{}: the guest was told of an error", image_->name()), error).message);
    }
    request.done(request, error);
    const std::lock_guard guard(mutex_);
    // Under the mutex: who drains may destroy this as soon as it is released.
    if (--in_flight_ == 0) idle_.notify_all();
  }

  std::shared_ptr<Image> image_;
  BlockTraits traits_;
  std::mutex mutex_;
  std::condition_variable idle_;
  std::uint64_t in_flight_ = 0;
  std::atomic<std::uint64_t> held_up_until_ = 0;
  std::atomic<bool> told_error_ = false;
  CopyApart copy_apart_;
  WorkerPool workers_;
  std::unique_ptr<AsyncIo> io_;  ///< ends before the workers
  WorkerPool copiers_;           ///< last: they end before all else
};

}  // namespace

Result<std::unique_ptr<Disk>> make_disk(std::shared_ptr<Image> image, const DiskOptions& options) {
  std::unique_ptr<AsyncIo> uring;
  if (options.aio != DiskOptions::Aio::Threads) uring = make_uring_io();
  if (!uring && options.aio == DiskOptions::Aio::IoUring) {
    return Error{"io_uring is not to be had on this host; use aio=threads"};
  }
  return std::unique_ptr<Disk>(std::make_unique<ImageDisk>(std::move(image), options, std::move(uring)));
}

Result<std::unique_ptr<Disk>> open_disk(const std::string& path, const DiskOptions& options) {
  auto image = open_image(
      path, {.format = options.format, .read_only = options.read_only, .cache = options.cache, .kept = options.kept});
  if (!image) return image.error();
  return make_disk(std::move(*image), options);
}

}  // namespace doppel::storage
