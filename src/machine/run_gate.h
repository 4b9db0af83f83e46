#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>

namespace doppel::machine {

/// Holds the vCPU threads between two instructions while the machine is paused. Starts closed, once.
class RunGate {
 public:
  /// `kick` makes every vCPU thread come to pass() soon; called without the gate's lock.
  RunGate(unsigned threads, std::function<void()> kick) : threads_(threads), kick_(std::move(kick)) {}

  // --- The vCPU threads' side ---
  /// Goes through when the gate is open, waits while it is closed. False: the thread has to end.
  bool pass();
  /// For a thread that must not go on before the owner has looked: waits until the gate is closed, pass() does the
  /// rest.
  void await_close();

  // --- Everyone else ---
  /// Closes and waits until every thread stands at the gate. Nests; true for the call that closed an open gate.
  bool close();
  /// Undoes one close(). `before_opening` runs when it was the last one, just before any thread goes on.
  void open(const std::function<void()>& before_opening);
  /// Lets every thread end. For good.
  void end();
  bool closed() const { return closed_.load(std::memory_order_acquire) != 0; }

 private:
  const unsigned threads_;
  const std::function<void()> kick_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<unsigned> closed_ = 1;
  unsigned waiting_ = 0;
  std::atomic<bool> ended_ = false;
};

}  // namespace doppel::machine
