#include "net/reactor.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "base/system_error.h"

namespace doppel::net {
namespace {

constexpr std::uint64_t kWakeId = 0;

epoll_event event_of(std::uint64_t id, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = id;
  return event;
}

}  // namespace

Result<std::unique_ptr<Reactor>> Reactor::create() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return system_error("cannot create an epoll instance");
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return system_error("cannot create an eventfd");
  epoll_event event = event_of(kWakeId, EPOLLIN);
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) return system_error("cannot watch an eventfd");
  return std::unique_ptr<Reactor>(new Reactor(std::move(epoll), std::move(wake)));
}

Reactor::Reactor(UniqueFd epoll, UniqueFd wake) : epoll_(std::move(epoll)), wake_(std::move(wake)) {
  // Signals are for the threads that wait for them.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Reactor::~Reactor() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const bool woken = write_all(wake_.get(), std::as_bytes(std::span{&one, 1})).ok();
  thread_.join();
}

void Reactor::watch(int fd, std::uint32_t events, Callback callback) {
  const std::lock_guard guard(mutex_);
  const std::uint64_t id = ++last_id_;
  if (const auto old = by_fd_.find(fd); old != by_fd_.end()) fd_of_.erase(old->second.id);
  by_fd_[fd] = {id, std::make_shared<Callback>(std::move(callback))};
  fd_of_[id] = fd;
  epoll_event event = event_of(id, events);
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0 && errno == EEXIST) {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
  }
}

void Reactor::set_events(int fd, std::uint32_t events) {
  const std::lock_guard guard(mutex_);
  const auto found = by_fd_.find(fd);
  if (found == by_fd_.end()) return;
  epoll_event event = event_of(found->second.id, events);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void Reactor::forget(int fd) {
  const std::lock_guard guard(mutex_);
  const auto found = by_fd_.find(fd);
  if (found == by_fd_.end()) return;
  fd_of_.erase(found->second.id);
  by_fd_.erase(found);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void Reactor::synchronize() {
  std::unique_lock guard(mutex_);
  if (!in_callback_) return;
  const std::uint64_t before = callbacks_;
  callback_ended_.wait(guard, [&] { return callbacks_ != before; });
}

void Reactor::dispatch(std::uint64_t id, std::uint32_t events) {
  std::shared_ptr<Callback> callback;
  {
    const std::lock_guard guard(mutex_);
    const auto found = fd_of_.find(id);
    if (found == fd_of_.end()) return;
    callback = by_fd_[found->second].callback;
    in_callback_ = true;
  }
  (*callback)(events);
  const std::lock_guard guard(mutex_);
  callback.reset();
  in_callback_ = false;
  ++callbacks_;
  callback_ended_.notify_all();
}

void Reactor::run() {
  pthread_setname_np(pthread_self(), "net");
  for (;;) {
    std::array<epoll_event, 64> events{};
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      if (event.data.u64 == kWakeId) return;
      dispatch(event.data.u64, event.events);
    }
  }
}

}  // namespace doppel::net
