#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

namespace doppel::machine {

/// Reads along with a console for the lines by which Linux says that it has died, because most panicked kernels tell
/// the hardware nothing.
class PanicWatch {
 public:
  /// `on_panic` gets what followed "Kernel panic - not syncing: ", once per panic, when the kernel has printed its
  /// whole report.
  explicit PanicWatch(std::function<void(std::string reason)> on_panic) : on_panic_(std::move(on_panic)) {}

  /// One thread at a time.
  void feed(std::span<const std::byte> output);
  /// The reason of the last report that has begun, for a panic that was told by other means. Any thread.
  std::string reason() const;

 private:
  void end_line();

  static constexpr std::size_t kMaxLine = 512;
  std::function<void(std::string)> on_panic_;
  std::string line_;
  mutable std::mutex mutex_;
  std::string reason_;
};

}  // namespace doppel::machine
