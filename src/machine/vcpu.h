#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>

#include "base/result.h"
#include "engine/engine.h"
#include "machine/deadline_signal.h"
#include "machine/run_gate.h"
#include "machine/waker.h"
#include "time/timer_queue.h"
#include "x86/attention.h"

namespace doppel::machine {

/// One virtual processor's thread: runs its engine, sleeps while the guest is halted, and serves the timers that are
/// its duty.
///
/// Each vCPU has a TimerQueue for its local APIC; vCPU 0 serves the machine's common queue as well, so that timers wake
/// no thread of their own (DESIGN 4.11).
class Vcpu {
 public:
  /// What the machine does when a processor cannot or must not go on. Called in the vCPU's thread, which then
  /// waits for the gate to be closed.
  using ExitHandler = std::function<void(unsigned index, const engine::Exit& exit)>;

  Vcpu(unsigned index, RunGate& gate, const time::VmClock& clock, time::TimerQueue* common_timers, ExitHandler on_exit);
  ~Vcpu();
  Vcpu(const Vcpu&) = delete;
  Vcpu& operator=(const Vcpu&) = delete;

  /// Takes the runner and starts the thread, which waits at the gate.
  Result<void> start(std::unique_ptr<engine::VcpuRunner> runner);
  /// After RunGate::end(). The runner is gone then, which its engine and the memory outlive.
  void join();

  /// Any thread: something waits for this processor.
  void notify(std::uint32_t attention_bits);
  void notify_sipi(std::uint8_t vector);

  /// Only while the gate is closed: whether to wait for it to close again when it opens, instead of running.
  void hold(bool held) { held_ = held; }

  x86::Attention& attention() { return attention_; }
  time::TimerQueue& timers() { return timers_; }
  engine::VcpuRunner& runner() { return *runner_; }

  /// For TimerQueue::set_on_earlier of the queues that this vCPU serves.
  void deadline_moved(time::Nanoseconds deadline);

 private:
  void thread_main(const std::function<void(Result<void>)>& on_started);
  void serve_timers();
  time::Nanoseconds next_deadline() const;

  const unsigned index_;
  RunGate& gate_;
  const time::VmClock& clock_;
  time::TimerQueue* const common_timers_;
  const ExitHandler on_exit_;
  x86::Attention attention_;
  time::TimerQueue timers_;
  DeadlineSignal deadline_signal_;
  Waker waker_;
  std::unique_ptr<engine::VcpuRunner> runner_;
  std::thread thread_;
  std::atomic<std::thread::id> thread_id_;
  std::atomic<bool> held_ = false;
};

}  // namespace doppel::machine
