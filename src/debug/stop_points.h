#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "debug/debug_target.h"

namespace doppel::debug {

/// The break- and watchpoints that a debugger has set: at most kLimit, each once.
class StopPoints {
 public:
  static constexpr std::size_t kLimit = 1024;
  /// The longest stretch of memory one watchpoint may watch, in bytes.
  static constexpr std::uint64_t kMaxWatchLength = 4096;

  /// False when it is impossible (no length, past the end of the address space) or too many are set. Setting one twice
  /// is setting it once.
  bool insert(const StopPoint& point);
  /// Removing what is not there is fine.
  void remove(const StopPoint& point);
  void clear() { points_.clear(); }

  std::span<const StopPoint> all() const { return points_; }
  /// The point that a Stop names, to tell what kind it is.
  std::optional<StopPoint> find(const Stop& stop) const;

 private:
  std::vector<StopPoint> points_;
};

}  // namespace doppel::debug
