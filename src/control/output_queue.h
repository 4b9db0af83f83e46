#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "control/event_loop.h"

namespace doppel::control {

/// Bytes on their way to a file descriptor that may be slow: written at once where that does not block, else kept and
/// written by the loop. The descriptor's own blocking mode is left alone, because others may share it (a terminal).
class OutputQueue : public std::enable_shared_from_this<OutputQueue> {
 public:
  enum class WhenFull {
    Wait,   ///< the writer waits: nothing is lost, whoever produces is slowed down
    Break,  ///< the queue breaks, as if the other side had closed
  };
  static constexpr std::size_t kLimit = std::size_t{1} << 20;

  /// `fd` stays the caller's and outlives the queue's work: call close() first. `on_broken` runs once, in the loop's
  /// thread, when a write failed.
  static std::shared_ptr<OutputQueue> create(EventLoop& loop, int fd, WhenFull when_full,
                                             std::function<void()> on_broken);

  /// Any thread; not the loop's with WhenFull::Wait.
  void write(std::span<const std::byte> bytes);
  /// From now on nobody waits, and what does not fit is lost: for a VM that has to end now. Any thread.
  void stop_waiting();
  /// Calls `action` once nothing waits any more, or the queue is broken: at once, or later in the loop's thread. The
  /// loop's thread; nobody writes meanwhile.
  void when_empty(EventLoop::Action action);
  /// Drops what waits, and forgets the descriptor. The loop's thread, or after it has ended.
  void close();

 private:
  OutputQueue(EventLoop& loop, int fd, WhenFull when_full, std::function<void()> on_broken);
  std::span<const std::byte> write_now(std::span<const std::byte> bytes);
  void break_off();
  void on_writable();

  EventLoop& loop_;
  const int fd_;
  const WhenFull when_full_;
  // The loop's thread only.
  std::function<void()> on_broken_;
  EventLoop::Action when_empty_;
  bool closed_ = false;

  std::mutex mutex_;
  std::condition_variable room_;
  std::string waiting_;
  bool broken_ = false;
  bool wait_ = true;
};

}  // namespace doppel::control
