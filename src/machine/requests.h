#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <utility>
#include <variant>

#include "engine/engine.h"
#include "machine/machine.h"

namespace doppel::machine {

/// What vCPU threads, devices and users ask of the machine's owner, who handles one after the other. Any thread may
/// post.
class Requests {
 public:
  struct Reset {};
  struct DebugStop {
    unsigned vcpu;
    engine::Exit exit;
  };
  using Task = std::function<void()>;
  using Request = std::variant<Reset, Outcome, DebugStop, Task>;  ///< an Outcome ends the machine

  void post(Request request) {
    {
      const std::scoped_lock lock(mutex_);
      queue_.push_back(std::move(request));
    }
    posted_.notify_one();
  }

  /// Forgets what the guest has asked for.
  void clear() {
    const std::scoped_lock lock(mutex_);
    std::erase_if(queue_, [](const Request& request) { return !std::holds_alternative<Task>(request); });
  }

  Request wait() {
    std::unique_lock lock(mutex_);
    posted_.wait(lock, [this] { return !queue_.empty(); });
    Request request = std::move(queue_.front());
    queue_.pop_front();
    return request;
  }

 private:
  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<Request> queue_;
};

}  // namespace doppel::machine
