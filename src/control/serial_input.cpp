#include "control/serial_input.h"

#include <utility>

namespace doppel::control {

void SerialInput::push(std::span<const std::byte> bytes) {
  backlog_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  feed();
}

void SerialInput::when_empty(std::function<void()> action) {
  when_empty_ = std::move(action);
  feed();
}

void SerialInput::space_available() {
  loop_.post([this] { feed(); });
}

void SerialInput::feed() {
  const bool was_enough = !wants_more();
  while (!backlog_.empty()) {
    const std::size_t taken = port_(std::as_bytes(std::span{backlog_}));
    if (taken == 0) break;
    backlog_.erase(0, taken);
  }
  if (was_enough && wants_more() && on_wants_more_) on_wants_more_();
  if (backlog_.empty() && when_empty_) std::exchange(when_empty_, nullptr)();
}

}  // namespace doppel::control
