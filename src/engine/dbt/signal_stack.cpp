#include "engine/dbt/signal_stack.h"

#include <csignal>

namespace doppel::engine::dbt {

SignalStack::SignalStack() : memory_(std::make_unique<std::byte[]>(kSize)) {}

SignalStack::~SignalStack() {
  if (user_ != std::this_thread::get_id()) return;
  stack_t none{};
  none.ss_flags = SS_DISABLE;
  sigaltstack(&none, nullptr);
}

void SignalStack::use() {
  if (user_ == std::this_thread::get_id()) return;
  stack_t stack{};
  stack.ss_sp = memory_.get();
  stack.ss_size = kSize;
  if (sigaltstack(&stack, nullptr) == 0) user_ = std::this_thread::get_id();
}

}  // namespace doppel::engine::dbt
