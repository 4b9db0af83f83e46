#include "machine/deadline_signal.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "time/vm_clock.h"

namespace doppel::machine {
namespace {

int deadline_signal_number() {
  return SIGRTMIN;
}

void on_deadline(int /*signal*/, siginfo_t* info, void* /*context*/) {
  static_cast<x86::Attention*>(info->si_value.sival_ptr)->set(x86::Attention::kStop);
}

time::Nanoseconds host_now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * time::kSecond + now.tv_nsec;
}

}  // namespace

DeadlineSignal::~DeadlineSignal() {
  if (bound_) timer_delete(timer_);
}

Result<void> DeadlineSignal::bind_to_this_thread() {
  struct sigaction action {};
  action.sa_sigaction = on_deadline;
  // Translated code has no stack.
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  sigfillset(&action.sa_mask);
  sigaction(deadline_signal_number(), &action, nullptr);

  // The default slack of 50 us would show in every guest sleep.
  prctl(PR_SET_TIMERSLACK, 1);

  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = deadline_signal_number();
  event.sigev_value.sival_ptr = &attention_;
  event._sigev_un._tid = gettid();
  if (timer_create(CLOCK_MONOTONIC, &event, &timer_) != 0) {
    return Error{std::string("cannot create a timer for a processor: ") + std::strerror(errno)};
  }
  bound_ = true;
  return {};
}

void DeadlineSignal::arm(time::Nanoseconds host_time) {
  if (!bound_ || host_time == time::kNever) return;
  if (armed_ <= host_time && armed_ > host_now()) return;
  itimerspec when{};
  when.it_value.tv_sec = host_time / time::kSecond;
  when.it_value.tv_nsec = host_time % time::kSecond;
  // Zero would disarm; a time in the past fires at once, which is what is wanted.
  if (host_time <= 0) when.it_value.tv_nsec = 1;
  armed_ = host_time;
  timer_settime(timer_, TIMER_ABSTIME, &when, nullptr);
}

}  // namespace doppel::machine
