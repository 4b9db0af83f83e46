#include "control/event_loop.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "base/system_error.h"

namespace doppel::control {

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return system_error("cannot create an eventfd");
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(wake)));
}

EventLoop::EventLoop(UniqueFd wake) : wake_(std::move(wake)) {}

void EventLoop::watch(int fd, short events, ReadyAction on_ready) {
  watches_[fd] = {events, ++generations_, std::make_shared<ReadyAction>(std::move(on_ready))};
}

void EventLoop::set_events(int fd, short events) {
  const auto found = watches_.find(fd);
  if (found != watches_.end()) found->second.events = events;
}

void EventLoop::forget(int fd) {
  watches_.erase(fd);
}

EventLoop::TimerId EventLoop::after(Clock::duration delay, Action action) {
  timers_[++last_timer_] = {Clock::now() + delay, std::move(action)};
  return last_timer_;
}

void EventLoop::cancel(TimerId timer) {
  timers_.erase(timer);
}

void EventLoop::post(Action action) {
  {
    const std::lock_guard guard(mutex_);
    posted_.push_back(std::move(action));
  }
  const std::uint64_t one = 1;
  // Fails only when the counter is full, and then the loop is awake anyway.
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

void EventLoop::quit() {
  post([this] { quit_ = true; });
}

void EventLoop::run_posted() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &count, sizeof count);
  std::vector<Action> actions;
  {
    const std::lock_guard guard(mutex_);
    actions.swap(posted_);
  }
  for (const Action& action : actions) action();
}

void EventLoop::run_timers() {
  const Clock::time_point now = Clock::now();
  std::vector<TimerId> due;
  for (const auto& [id, timer] : timers_) {
    if (timer.due <= now) due.push_back(id);
  }
  // Late, several are due at once: still in the order of their times.
  std::ranges::stable_sort(due, {}, [this](TimerId id) { return timers_.at(id).due; });
  for (const TimerId id : due) {
    const auto found = timers_.find(id);
    if (found == timers_.end()) continue;  // cancelled by one before it
    const Action action = std::move(found->second.action);
    timers_.erase(found);
    action();
  }
}

int EventLoop::poll_timeout() const {
  if (timers_.empty()) return -1;
  const auto first = std::ranges::min_element(
      timers_, [](const auto& left, const auto& right) { return left.second.due < right.second.due; });
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(first->second.due - Clock::now()).count();
  return static_cast<int>(std::clamp<long>(left, 0, std::numeric_limits<int>::max()));
}

void EventLoop::run() {
  quit_ = false;
  while (!quit_) {
    std::vector<pollfd> waiting{{wake_.get(), POLLIN, 0}};
    std::vector<std::uint64_t> generations{0};
    for (const auto& [fd, watch] : watches_) {
      waiting.push_back({fd, watch.events, 0});
      generations.push_back(watch.generation);
    }
    if (::poll(waiting.data(), waiting.size(), poll_timeout()) < 0) continue;  // EINTR

    if (waiting[0].revents != 0) run_posted();
    run_timers();
    for (std::size_t i = 1; i < waiting.size() && !quit_; ++i) {
      if (waiting[i].revents == 0) continue;
      const auto found = watches_.find(waiting[i].fd);
      // Forgotten, or another file by the same number, since the wait.
      if (found == watches_.end() || found->second.generation != generations[i]) continue;
      const std::shared_ptr<ReadyAction> on_ready = found->second.on_ready;
      (*on_ready)(waiting[i].revents);
    }
  }
}

}  // namespace doppel::control
