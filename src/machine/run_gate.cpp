#include "machine/run_gate.h"

namespace doppel::machine {

bool RunGate::pass() {
  if (closed_.load(std::memory_order_acquire) == 0 && !ended_.load(std::memory_order_acquire)) return true;
  std::unique_lock lock(mutex_);
  ++waiting_;
  changed_.notify_all();
  changed_.wait(lock, [this] { return closed_ == 0 || ended_; });
  --waiting_;
  return !ended_;
}

void RunGate::await_close() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return closed_ != 0 || ended_; });
}

bool RunGate::close() {
  const bool was_open = closed_.fetch_add(1) == 0;
  if (was_open) kick_();
  std::unique_lock lock(mutex_);
  changed_.notify_all();
  changed_.wait(lock, [this] { return waiting_ == threads_ || ended_; });
  return was_open;
}

void RunGate::open(const std::function<void()>& before_opening) {
  {
    const std::scoped_lock lock(mutex_);
    if (closed_ == 1) before_opening();
    --closed_;
  }
  changed_.notify_all();
}

void RunGate::end() {
  {
    const std::scoped_lock lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
  kick_();
}

}  // namespace doppel::machine
