#include <liburing.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <mutex>
#include <thread>

#include "storage/async_io.h"

namespace doppel::storage {
namespace {

constexpr unsigned kEntries = 256;

class UringIo final : public AsyncIo {
 public:
  static std::unique_ptr<AsyncIo> make() {
    std::unique_ptr<UringIo> io(new UringIo);
    if (::io_uring_queue_init(kEntries, &io->ring_, 0) != 0) return nullptr;
    io->initialised_ = true;
    // A kernel too old for vectored reads without registration has no place here either.
    io_uring_probe* const probe = ::io_uring_get_probe_ring(&io->ring_);
    const bool able = probe != nullptr && ::io_uring_opcode_supported(probe, IORING_OP_READV) != 0 &&
                      ::io_uring_opcode_supported(probe, IORING_OP_WRITEV) != 0;
    if (probe != nullptr) ::io_uring_free_probe(probe);
    if (!able) return nullptr;
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    io->reaper_ = std::thread([ring = io.get()] { ring->reap(); });
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return io;
  }

  ~UringIo() override {
    if (reaper_.joinable()) {
      {
        const std::lock_guard guard(mutex_);
        io_uring_sqe* const sqe = next_entry();
        ::io_uring_prep_nop(sqe);
        ::io_uring_sqe_set_data(sqe, nullptr);
        submit();
      }
      reaper_.join();
    }
    if (initialised_) ::io_uring_queue_exit(&ring_);
  }

  void start(FileIo& io) override {
    const std::lock_guard guard(mutex_);
    io_uring_sqe* const sqe = next_entry();
    const int fd = io.file->descriptor(io.offset, io.buffers);
    const unsigned count = static_cast<unsigned>(io.buffers.size() < IOV_MAX ? io.buffers.size() : IOV_MAX);
    if (io.is_write) {
      ::io_uring_prep_writev(sqe, fd, io.buffers.data(), count, io.offset);
    } else {
      ::io_uring_prep_readv(sqe, fd, io.buffers.data(), count, io.offset);
    }
    ::io_uring_sqe_set_data(sqe, &io);
    submit();
  }

  const char* name() const override { return "io_uring"; }

 private:
  UringIo() = default;

  io_uring_sqe* next_entry() {
    for (;;) {
      if (io_uring_sqe* const sqe = ::io_uring_get_sqe(&ring_); sqe != nullptr) return sqe;
      submit();
    }
  }

  void submit() {
    // -EBUSY and -EAGAIN: completions must be reaped first, which the other thread is doing.
    int submitted;
    do {
      submitted = ::io_uring_submit(&ring_);
      if (submitted == -EBUSY || submitted == -EAGAIN) std::this_thread::yield();
    } while (submitted == -EINTR || submitted == -EBUSY || submitted == -EAGAIN);
  }

  void reap() {
    for (;;) {
      io_uring_cqe* cqe = nullptr;
      if (::io_uring_wait_cqe(&ring_, &cqe) != 0) continue;
      auto* const io = static_cast<FileIo*>(::io_uring_cqe_get_data(cqe));
      const int result = cqe->res;
      ::io_uring_cqe_seen(&ring_, cqe);
      if (io == nullptr) return;
      finish(*io, result);
    }
  }

  void finish(FileIo& io, int result) {
    if (result == -EINTR || result == -EAGAIN) {
      start(io);
      return;
    }
    if (result < 0) {
      io.done(io, -result);
      return;
    }
    const auto moved = static_cast<std::uint64_t>(result);
    const std::uint64_t left = total_size(io.buffers) - moved;
    if (left == 0) {
      io.done(io, 0);
      return;
    }
    // Short: the end of the file, or a limit of the kernel. The waiting calls know all of that.
    const std::vector<iovec> rest = slice(io.buffers, moved, left);
    io.done(io, io.is_write ? io.file->write(io.offset + moved, rest) : io.file->read(io.offset + moved, rest));
  }

  io_uring ring_{};
  bool initialised_ = false;
  std::mutex mutex_;  ///< the submission queue
  std::thread reaper_;
};

}  // namespace

std::unique_ptr<AsyncIo> make_uring_io() {
  return UringIo::make();
}

}  // namespace doppel::storage
