#pragma once

#include <sched.h>

#include <chrono>
#include <mutex>
#include <optional>
#include <vector>

namespace doppel::engine::direct {

/// Which of the host's processors the pairs of a machine's vCPU and process are on: two that take turns are best on
/// one, for to wake a processor takes ten times as long as to switch on one. Any thread.
class CpuPlaces {
 public:
  /// A processor out of `allowed`, `here` if nobody else is on it.
  int take(int here, const cpu_set_t& allowed);
  void give_back(int cpu);

 private:
  std::mutex mutex_;
  std::vector<unsigned> taken_;  ///< by processor
};

/// Keeps the calling thread where its process is, for a while at a time, so that the host can balance its load. The
/// vCPU's thread.
class CpuPin {
 public:
  using Clock = std::chrono::steady_clock;

  explicit CpuPin(CpuPlaces& places) : places_(places) {}
  ~CpuPin() { release(); }
  CpuPin(const CpuPin&) = delete;
  CpuPin& operator=(const CpuPin&) = delete;

  /// Returns the processor for the process when that changes.
  std::optional<int> settle(Clock::time_point now);
  /// The thread may be anywhere again.
  void release();

 private:
  CpuPlaces& places_;
  std::optional<int> cpu_;
  cpu_set_t allowed_{};  ///< before it was pinned
  Clock::time_point pinned_{}, settled_{};
};

}  // namespace doppel::engine::direct
