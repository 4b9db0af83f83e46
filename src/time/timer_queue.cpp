#include "time/timer_queue.h"

#include <algorithm>
#include <utility>

namespace doppel::time {
namespace {

bool earlier(const Timer* left, const Timer* right) {
  return left->deadline() < right->deadline();
}

}  // namespace

/// To be called with mutex_ held, after any change of armed_. True when the deadline moved to an earlier time.
bool TimerQueue::publish() {
  const auto first = std::min_element(armed_.begin(), armed_.end(), earlier);
  const Nanoseconds deadline = first == armed_.end() ? kNever : (*first)->deadline();
  return deadline < next_deadline_.exchange(deadline, std::memory_order_acq_rel);
}

void TimerQueue::arm(Timer& timer, Nanoseconds deadline) {
  bool moved_earlier = false;
  {
    const std::lock_guard guard(mutex_);
    std::erase(armed_, &timer);
    timer.deadline_.store(deadline, std::memory_order_relaxed);
    if (deadline != kNever) armed_.push_back(&timer);
    moved_earlier = publish();
  }
  if (moved_earlier && on_earlier_) on_earlier_(deadline);
}

void TimerQueue::remove(Timer& timer) {
  std::unique_lock guard(mutex_);
  std::erase(armed_, &timer);
  publish();
  idle_.wait(guard, [&] { return running_ != &timer || runner_ == std::this_thread::get_id(); });
}

Timer* TimerQueue::take_due(Nanoseconds now) {
  const std::lock_guard guard(mutex_);
  running_ = nullptr;
  idle_.notify_all();
  const auto first = std::min_element(armed_.begin(), armed_.end(), earlier);
  if (first == armed_.end() || (*first)->deadline() > now) return nullptr;
  running_ = *first;
  runner_ = std::this_thread::get_id();
  armed_.erase(first);
  running_->deadline_.store(kNever, std::memory_order_relaxed);
  publish();
  return running_;
}

void TimerQueue::run_expired(Nanoseconds now) {
  if (next_deadline() > now) return;
  const std::lock_guard one_at_a_time(run_mutex_);
  while (Timer* timer = take_due(now)) timer->callback_(now);
}

Timer::Timer(TimerQueue& queue, std::function<void(Nanoseconds now)> callback)
    : queue_(queue), callback_(std::move(callback)) {}

Timer::~Timer() {
  queue_.remove(*this);
}

void Timer::arm(Nanoseconds deadline) {
  queue_.arm(*this, deadline);
}

void Timer::disarm() {
  queue_.arm(*this, kNever);
}

}  // namespace doppel::time
