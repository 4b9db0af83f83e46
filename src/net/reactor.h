#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "base/fd.h"
#include "base/result.h"

namespace doppel::net {

/// The one thread of a VM that waits for the host's sockets: the network's and those behind vsock. What it watches is
/// changed by other threads without waking it (epoll(7)), so a vCPU that sends pays no hand-off.
///
/// Callbacks run in that thread, one at a time, and may watch and forget. Any thread may call any function. Nobody
/// holds a lock that a callback takes while calling synchronize().
class Reactor {
 public:
  /// Gets what epoll_wait(2) said: EPOLLIN, EPOLLOUT, EPOLLHUP …
  using Callback = std::function<void(std::uint32_t events)>;

  static Result<std::unique_ptr<Reactor>> create();
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  /// `events` as for epoll_ctl(2), level-triggered; 0 leaves hang-ups and errors. The fd stays the caller's, who
  /// forgets it before closing it.
  void watch(int fd, std::uint32_t events, Callback callback);
  void set_events(int fd, std::uint32_t events);
  /// A callback that has begun may still run when this returns: see synchronize().
  void forget(int fd);
  /// Waits until no callback runs that had begun before; not in callbacks.
  void synchronize();

 private:
  Reactor(UniqueFd epoll, UniqueFd wake);
  struct Watch {
    std::uint64_t id;
    std::shared_ptr<Callback> callback;
  };
  void run();
  void dispatch(std::uint64_t id, std::uint32_t events);

  const UniqueFd epoll_;
  const UniqueFd wake_;  ///< an eventfd that ends the thread
  std::mutex mutex_;     ///< for what follows
  std::map<int, Watch> by_fd_;
  std::map<std::uint64_t, int> fd_of_;
  std::uint64_t last_id_ = 0;
  bool in_callback_ = false;
  std::uint64_t callbacks_ = 0;  ///< that have ended
  std::condition_variable callback_ended_;
  std::thread thread_;
};

}  // namespace doppel::net
