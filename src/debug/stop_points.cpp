#include "debug/stop_points.h"

#include <algorithm>

namespace doppel::debug {

bool StopPoints::insert(const StopPoint& point) {
  if (!point.is_breakpoint()) {
    const bool wraps = point.address + (point.length - 1) < point.address;
    if (point.length == 0 || point.length > kMaxWatchLength || wraps) return false;
  }
  if (std::find(points_.begin(), points_.end(), point) != points_.end()) return true;
  if (points_.size() >= kLimit) return false;
  points_.push_back(point);
  return true;
}

void StopPoints::remove(const StopPoint& point) {
  std::erase(points_, point);
}

std::optional<StopPoint> StopPoints::find(const Stop& stop) const {
  const bool wants_breakpoint = stop.reason == Stop::Reason::Breakpoint;
  for (const StopPoint& point : points_) {
    if (point.is_breakpoint() != wants_breakpoint) continue;
    if (wants_breakpoint ? point.address == stop.address : stop.address - point.address < point.length) return point;
  }
  return std::nullopt;
}

}  // namespace doppel::debug
