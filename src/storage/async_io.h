#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "storage/file.h"
#include "storage/worker_pool.h"

namespace doppel::storage {

/// One read or write of a file in flight. The caller owns it until `done`.
struct FileIo {
  File* file = nullptr;
  bool is_write = false;
  std::uint64_t offset = 0;
  std::vector<iovec> buffers;  ///< the pieces that are left; consumed by the transfer
  /// Once, on any thread, also inside AsyncIo::start.
  void (*done)(FileIo& io, int error) = nullptr;
};

/// How file I/O is done without waiting for it.
class AsyncIo {
 public:
  virtual ~AsyncIo() = default;
  virtual void start(FileIo& io) = 0;
  /// "io_uring" or "threads".
  virtual const char* name() const = 0;
};

/// By worker threads; always works.
std::unique_ptr<AsyncIo> make_thread_io(WorkerPool& workers);
/// By io_uring, with a thread for completions; nothing where the kernel or a seccomp filter forbids it.
std::unique_ptr<AsyncIo> make_uring_io();

}  // namespace doppel::storage
