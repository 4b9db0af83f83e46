#include "machine/vcpu.h"

#include <pthread.h>

#include <algorithm>
#include <future>
#include <string>
#include <utility>

namespace doppel::machine {

Vcpu::Vcpu(unsigned index, RunGate& gate, const time::VmClock& clock, time::TimerQueue* common_timers,
           ExitHandler on_exit)
    : index_(index),
      gate_(gate),
      clock_(clock),
      common_timers_(common_timers),
      on_exit_(std::move(on_exit)),
      deadline_signal_(attention_) {
  timers_.set_on_earlier([this](time::Nanoseconds deadline) { deadline_moved(deadline); });
}

Vcpu::~Vcpu() {
  join();
}

Result<void> Vcpu::start(std::unique_ptr<engine::VcpuRunner> runner) {
  runner_ = std::move(runner);
  std::promise<Result<void>> started;
  auto outcome = started.get_future();
  thread_ = std::thread(
      [this, &started] { thread_main([&started](Result<void> result) { started.set_value(std::move(result)); }); });
  return outcome.get();
}

void Vcpu::join() {
  if (thread_.joinable()) thread_.join();
  runner_.reset();
}

void Vcpu::notify(std::uint32_t attention_bits) {
  attention_.set(attention_bits);
  waker_.wake();
}

void Vcpu::notify_sipi(std::uint8_t vector) {
  attention_.post_sipi(vector);
  waker_.wake();
}

void Vcpu::deadline_moved(time::Nanoseconds deadline) {
  if (std::this_thread::get_id() == thread_id_.load(std::memory_order_relaxed)) {
    deadline_signal_.arm(clock_.host_time(deadline));
  } else {
    notify(x86::Attention::kStop);
  }
}

time::Nanoseconds Vcpu::next_deadline() const {
  const time::Nanoseconds own = timers_.next_deadline();
  return common_timers_ == nullptr ? own : std::min(own, common_timers_->next_deadline());
}

void Vcpu::serve_timers() {
  if (next_deadline() == time::kNever) return;
  const time::Nanoseconds now = clock_.now();
  timers_.run_expired(now);
  if (common_timers_ != nullptr) common_timers_->run_expired(now);
}

void Vcpu::thread_main(const std::function<void(Result<void>)>& on_started) {
  thread_id_ = std::this_thread::get_id();
  pthread_setname_np(pthread_self(), ("vcpu" + std::to_string(index_)).c_str());
  Result<void> bound = deadline_signal_.bind_to_this_thread();
  const bool usable = bound.ok();
  on_started(std::move(bound));
  if (!usable) return;

  while (gate_.pass()) {
    if (held_) {
      gate_.await_close();
      continue;
    }
    serve_timers();
    const time::Nanoseconds deadline = next_deadline();
    if (deadline != time::kNever) deadline_signal_.arm(clock_.host_time(deadline));
    const engine::Exit exit = runner_->run();
    switch (exit.reason) {
      case engine::ExitReason::Stopped:
        break;
      case engine::ExitReason::Halted: {
        const time::Nanoseconds wake_at = next_deadline();
        waker_.sleep(attention_, wake_at == time::kNever ? wake_at : clock_.host_time(wake_at));
        break;
      }
      default:
        on_exit_(index_, exit);
        gate_.await_close();
        break;
    }
  }
}

}  // namespace doppel::machine
