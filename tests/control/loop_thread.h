#pragma once

#include <future>
#include <memory>
#include <thread>

#include "control/event_loop.h"

namespace doppel::test {

/// An event loop in a thread of its own, ended with it.
class LoopThread {
 public:
  LoopThread() : loop_(control::EventLoop::create().value()), thread_([this] { loop_->run(); }) {}
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;
  ~LoopThread() { end(); }

  control::EventLoop& loop() { return *loop_; }
  /// Runs `action` in the loop's thread and waits for it.
  void run(const std::function<void()>& action) {
    std::promise<void> done;
    loop_->post([&] {
      action();
      done.set_value();
    });
    done.get_future().wait();
  }
  void end() {
    if (!thread_.joinable()) return;
    loop_->quit();
    thread_.join();
  }

 private:
  std::unique_ptr<control::EventLoop> loop_;
  std::thread thread_;
};

}  // namespace doppel::test
