#include "engine/dbt/signal_stack.h"

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
  if (sigaltstack(&stack, &previous_) == 0) user_ = std::this_thread::get_id();
}

void SignalStack::release() {
  if ((previous_.ss_flags & SS_DISABLE) != 0) return;
  sigaltstack(&previous_, nullptr);
  user_ = {};
}

}  // namespace doppel::engine::dbt
