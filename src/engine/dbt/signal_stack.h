#pragma once

#include <csignal>
#include <cstddef>
#include <memory>
#include <thread>

namespace doppel::engine::dbt {

/// Where a thread's signal handlers run: translated code has no stack that they could use.
class SignalStack {
 public:
  SignalStack();
  ~SignalStack();
  SignalStack(const SignalStack&) = delete;
  SignalStack& operator=(const SignalStack&) = delete;

  /// For the calling thread from now on …
  void use();
  /// … or until now, where the thread had a stack for its signals already: a sanitizer's, which it frees in the end.
  void release();

 private:
  static constexpr std::size_t kSize = 256 * 1024;
  std::unique_ptr<std::byte[]> memory_;
  std::thread::id user_;
  stack_t previous_{};
};

}  // namespace doppel::engine::dbt
