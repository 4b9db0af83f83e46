#pragma once

#include <functional>
#include <span>

#include "control/event_loop.h"

namespace doppel::cli {

/// Standard input in the loop: bytes as they come, then once the end. Pausable, so that a slow guest slows its source.
class InputSource {
 public:
  InputSource(control::EventLoop& loop, int fd, std::function<void(std::span<const std::byte>)> on_bytes,
              std::function<void()> on_end);
  ~InputSource();
  InputSource(const InputSource&) = delete;
  InputSource& operator=(const InputSource&) = delete;

  /// Starts paused.
  void set_flowing(bool flowing);

 private:
  void read();

  control::EventLoop& loop_;
  const int fd_;
  std::function<void(std::span<const std::byte>)> on_bytes_;
  std::function<void()> on_end_;
  bool flowing_ = false;
  bool ended_ = false;
};

}  // namespace doppel::cli
