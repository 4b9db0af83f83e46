#include "control/output_queue.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace doppel::control {
namespace {

/// poll() promises room for this much and not more (PIPE_BUF).
constexpr std::size_t kChunk = 4096;

bool writable(int fd) {
  pollfd waiting{fd, POLLOUT, 0};
  return ::poll(&waiting, 1, 0) > 0;
}

std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span{text});
}

}  // namespace

std::shared_ptr<OutputQueue> OutputQueue::create(EventLoop& loop, int fd, WhenFull when_full,
                                                 std::function<void()> on_broken) {
  return std::shared_ptr<OutputQueue>(new OutputQueue(loop, fd, when_full, std::move(on_broken)));
}

OutputQueue::OutputQueue(EventLoop& loop, int fd, WhenFull when_full, std::function<void()> on_broken)
    : loop_(loop), fd_(fd), when_full_(when_full), on_broken_(std::move(on_broken)) {}

/// Writes what goes without waiting, and returns the rest.
std::span<const std::byte> OutputQueue::write_now(std::span<const std::byte> bytes) {
  while (!bytes.empty() && !broken_ && writable(fd_)) {
    const ssize_t written = ::write(fd_, bytes.data(), std::min(bytes.size(), kChunk));
    if (written > 0) bytes = bytes.subspan(static_cast<std::size_t>(written));
    if (written < 0 && errno == EAGAIN) break;
    if (written < 0 && errno != EINTR) break_off();
  }
  return bytes;
}

void OutputQueue::break_off() {
  if (std::exchange(broken_, true)) return;
  waiting_.clear();
  room_.notify_all();
  loop_.post([self = shared_from_this()] {
    if (self->closed_) return;
    self->loop_.forget(self->fd_);
    if (self->when_empty_) std::exchange(self->when_empty_, nullptr)();
    if (self->on_broken_) self->on_broken_();
  });
}

void OutputQueue::write(std::span<const std::byte> bytes) {
  std::unique_lock guard(mutex_);
  if (waiting_.empty()) bytes = write_now(bytes);
  while (!bytes.empty() && !broken_) {
    if (waiting_.size() >= kLimit) {
      if (when_full_ == WhenFull::Break) return break_off();
      if (!wait_) return;
      room_.wait(guard, [&] { return waiting_.size() < kLimit || broken_ || !wait_; });
      continue;
    }
    const std::size_t part = std::min(bytes.size(), kLimit - waiting_.size());
    if (waiting_.empty()) {
      loop_.post([self = shared_from_this()] {
        if (!self->closed_) self->loop_.watch(self->fd_, POLLOUT, [self](short) { self->on_writable(); });
      });
    }
    waiting_.append(reinterpret_cast<const char*>(bytes.data()), part);
    bytes = bytes.subspan(part);
  }
}

void OutputQueue::stop_waiting() {
  const std::lock_guard guard(mutex_);
  wait_ = false;
  room_.notify_all();
}

void OutputQueue::on_writable() {
  {
    const std::lock_guard guard(mutex_);
    const std::size_t left = write_now(as_bytes(waiting_)).size();
    if (broken_) return;
    waiting_.erase(0, waiting_.size() - left);
    room_.notify_all();
    if (!waiting_.empty()) return;
  }
  loop_.forget(fd_);
  if (when_empty_) std::exchange(when_empty_, nullptr)();
}

void OutputQueue::when_empty(EventLoop::Action action) {
  {
    const std::lock_guard guard(mutex_);
    if (!waiting_.empty() && !broken_) {
      when_empty_ = std::move(action);
      return;
    }
  }
  action();
}

void OutputQueue::close() {
  const std::lock_guard guard(mutex_);
  loop_.forget(fd_);
  closed_ = broken_ = true;
  when_empty_ = nullptr;
  on_broken_ = nullptr;
  waiting_.clear();
  room_.notify_all();
}

}  // namespace doppel::control
