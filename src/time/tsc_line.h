#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "time/host_tsc.h"

namespace doppel::time {

/// Nanoseconds of VM time as a function of the host's TSC, for as long as one holds:
///   value + (TSC + minus_start) * rate / 2^64, while TSC + minus_start is not negative.
/// Any thread may evaluate it, and so does translated code (engine/dbt), which knows this layout: a reader takes
/// `inverted_end`, then the terms and the TSC, then `begin`; the line holds if the two numbers agree. Writers are
/// serialized by their owner.
struct alignas(64) TscLine {
  std::atomic<std::uint64_t> inverted_end{~std::uint64_t{0}};  ///< of the change that made it
  std::atomic<std::uint64_t> minus_start{0};
  std::atomic<std::uint64_t> rate{0};  ///< nanoseconds a tick, in units of 2^-64
  std::atomic<std::uint64_t> value{0};
  std::atomic<std::uint64_t> begin{1};  ///< of the last change; ahead of its end while there is no line

  std::optional<std::uint64_t> now() const {
    const std::uint64_t end = ~inverted_end.load(std::memory_order_acquire);
    const std::uint64_t tsc = host_tsc();
    const std::uint64_t at = here(tsc);
    const bool after_start = reaches(tsc);
    std::atomic_thread_fence(std::memory_order_acquire);
    if (begin.load(std::memory_order_relaxed) != end || !after_start) return std::nullopt;
    return at;
  }

  /// From here on, no reader uses the terms that it had.
  void take_back() {
    begin.store(~inverted_end.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
  /// After take_back(): what it was worth at `tsc`.
  std::uint64_t here(std::uint64_t tsc) const {
    return value.load(std::memory_order_relaxed) +
           elapsed(tsc + minus_start.load(std::memory_order_relaxed), rate.load(std::memory_order_relaxed));
  }
  /// Whether the counter has not been set back.
  bool reaches(std::uint64_t tsc) const {
    return static_cast<std::int64_t>(tsc + minus_start.load(std::memory_order_relaxed)) >= 0;
  }
  /// After take_back(): the line through this point. It holds a little to the left of it, too, since translated
  /// code may execute RDTSC ahead of its loads.
  void put(std::uint64_t tsc, std::uint64_t at, std::uint64_t new_rate) {
    constexpr std::uint64_t kToTheLeft = 1 << 20;
    minus_start.store(kToTheLeft - tsc, std::memory_order_relaxed);
    rate.store(new_rate, std::memory_order_relaxed);
    value.store(at - elapsed(kToTheLeft, new_rate), std::memory_order_relaxed);
    inverted_end.store(~begin.load(std::memory_order_relaxed), std::memory_order_release);
  }

 private:
  static std::uint64_t elapsed(std::uint64_t ticks, std::uint64_t rate) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint64_t>(static_cast<Wide>(ticks) * rate >> 64);
  }
};

}  // namespace doppel::time
