#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace doppel::control {

/// One thread's wait for everything that comes from outside: sockets, the terminal, signals. Callbacks run in the
/// thread that is in run(), one at a time, and may watch, forget, post and quit. post() and quit() are for any thread,
/// the rest for the loop's (or before run()).
class EventLoop {
 public:
  using Clock = std::chrono::steady_clock;
  using Action = std::function<void()>;
  /// Gets poll(2)'s revents.
  using ReadyAction = std::function<void(short)>;
  using TimerId = std::uint64_t;

  static Result<std::unique_ptr<EventLoop>> create();

  /// Calls `on_ready` whenever `events` (POLLIN, POLLOUT; hang-ups and errors always) come for `fd`. The fd stays the
  /// caller's, who forgets it here before closing it.
  void watch(int fd, short events, ReadyAction on_ready);
  /// Other events for a watched fd; 0 leaves only hang-ups and errors.
  void set_events(int fd, short events);
  void forget(int fd);

  TimerId after(Clock::duration delay, Action action);
  void cancel(TimerId timer);

  void post(Action action);

  /// Until quit().
  void run();
  void quit();

 private:
  explicit EventLoop(UniqueFd wake);
  struct Watch {
    short events;
    std::uint64_t generation;
    std::shared_ptr<ReadyAction> on_ready;
  };
  struct Timer {
    Clock::time_point due;
    Action action;
  };

  void run_posted();
  void run_timers();
  int poll_timeout() const;

  UniqueFd wake_;  ///< an eventfd that ends the wait
  std::map<int, Watch> watches_;
  std::uint64_t generations_ = 0;
  std::map<TimerId, Timer> timers_;
  TimerId last_timer_ = 0;

  std::mutex mutex_;  ///< for what follows
  std::vector<Action> posted_;
  bool quit_ = false;
};

}  // namespace doppel::control
