#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "control/event_loop.h"

namespace doppel::control {

/// Bytes on their way into a guest's serial port, which takes few at a time. The loop's thread only, except
/// space_available().
class SerialInput {
 public:
  /// Gives bytes to the port and returns how many it has taken.
  using Port = std::function<std::size_t(std::span<const std::byte>)>;
  /// Sources stop reading at this backlog; nothing is ever dropped.
  static constexpr std::size_t kEnough = std::size_t{64} << 10;

  SerialInput(EventLoop& loop, Port port) : loop_(loop), port_(std::move(port)) {}

  void push(std::span<const std::byte> bytes);
  bool wants_more() const { return backlog_.size() < kEnough; }
  /// Called when wants_more() has become true again.
  void set_on_wants_more(std::function<void()> action) { on_wants_more_ = std::move(action); }
  /// Called once when all that was pushed until then is in the port.
  void when_empty(std::function<void()> action);

  /// The port has room again. Any thread.
  void space_available();

 private:
  void feed();

  EventLoop& loop_;
  Port port_;
  std::string backlog_;
  std::function<void()> on_wants_more_;
  std::function<void()> when_empty_;
};

}  // namespace doppel::control
