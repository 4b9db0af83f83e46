#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "time/vm_clock.h"

namespace doppel::time {

class Timer;

/// The deadlines of a group of timers. No thread of its own: whichever thread finds a deadline passed runs the
/// callbacks, so that a device's timer costs no wake-up of another thread (DESIGN 4.11). Any thread may call any
/// function; callbacks run one at a time, without the queue's lock held, and may arm and disarm timers. Nobody calls
/// run_expired() while holding a lock that a callback takes.
class TimerQueue {
 public:
  /// Earliest armed deadline, or kNever. Lock-free.
  Nanoseconds next_deadline() const { return next_deadline_.load(std::memory_order_acquire); }

  /// Runs the callbacks of all timers due at `now`, earliest first, those included that a callback arms for `now` or
  /// before.
  void run_expired(Nanoseconds now);

  /// Called, in the arming thread, whenever next_deadline() moves to an earlier time. Set once, before timers are
  /// armed.
  void set_on_earlier(std::function<void(Nanoseconds)> on_earlier) { on_earlier_ = std::move(on_earlier); }

 private:
  friend class Timer;
  void arm(Timer& timer, Nanoseconds deadline);
  void remove(Timer& timer);
  Timer* take_due(Nanoseconds now);
  bool publish();

  std::mutex run_mutex_;  ///< held while callbacks run; before mutex_
  std::mutex mutex_;
  std::vector<Timer*> armed_;  ///< few (a dozen a machine), so a plain vector beats a heap
  Timer* running_ = nullptr;
  std::thread::id runner_;
  std::condition_variable idle_;  ///< running_ became nullptr
  std::atomic<Nanoseconds> next_deadline_ = kNever;
  std::function<void(Nanoseconds)> on_earlier_;
};

/// One deadline and what to do when it has passed. Belongs to its device; disarms itself when destroyed. The deadline
/// itself is not device state: describe() the counter registers and re-arm in on_loaded. A callback that another thread
/// has already begun still runs after disarm() or arm() has returned; it takes its device's lock and looks again what
/// is due.
class Timer {
 public:
  Timer(TimerQueue& queue, std::function<void(Nanoseconds now)> callback);
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  /// Waits for a callback that is running in another thread.
  ~Timer();

  /// One-shot; re-arming replaces the deadline. kNever disarms.
  void arm(Nanoseconds deadline);
  void disarm();
  Nanoseconds deadline() const { return deadline_.load(std::memory_order_relaxed); }

 private:
  friend class TimerQueue;
  TimerQueue& queue_;
  std::function<void(Nanoseconds)> callback_;
  std::atomic<Nanoseconds> deadline_ = kNever;
};

}  // namespace doppel::time
