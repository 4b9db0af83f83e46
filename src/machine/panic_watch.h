#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

namespace doppel::machine {

/// Reads along with a console for the line by which Linux says that it has died, because a panicked kernel tells the
/// hardware nothing. One thread at a time.
class PanicWatch {
 public:
  /// `on_panic` gets what followed "Kernel panic - not syncing: ", once per panic, when the kernel has printed its
  /// whole report.
  explicit PanicWatch(std::function<void(std::string reason)> on_panic) : on_panic_(std::move(on_panic)) {}

  void feed(std::span<const std::byte> output);

 private:
  void end_line();

  static constexpr std::size_t kMaxLine = 512;
  std::function<void(std::string)> on_panic_;
  std::string line_;
};

}  // namespace doppel::machine
