#include "storage/async_io.h"

namespace doppel::storage {
namespace {

class ThreadIo final : public AsyncIo {
 public:
  explicit ThreadIo(WorkerPool& workers) : workers_(workers) {}

  void start(FileIo& io) override {
    workers_.run([&io] {
      io.done(io, io.is_write ? io.file->write(io.offset, io.buffers) : io.file->read(io.offset, io.buffers));
    });
  }
  const char* name() const override { return "threads"; }

 private:
  WorkerPool& workers_;
};

}  // namespace

std::unique_ptr<AsyncIo> make_thread_io(WorkerPool& workers) {
  return std::make_unique<ThreadIo>(workers);
}

}  // namespace doppel::storage
