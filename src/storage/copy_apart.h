#pragma once

#include <atomic>
#include <cstdint>

namespace doppel::storage {

/// Decides which copies between a guest's memory and the page cache are made by another thread. It pays for large ones
/// only, and only if the guest goes on meanwhile: one that waits for each request would have to wait for that thread to
/// wake up as well. What kind of guest it is shows when a request comes while another is with a thread; now and then
/// one is given to a thread to find out. Any thread may call.
class CopyApart {
 public:
  /// `threads` may copy at the same time; none: every copy is made at once.
  explicit CopyApart(unsigned threads) : most_(threads * kQueued) {}

  /// True: leave this copy to another thread, and call ended() after it. False: make it now.
  bool begin(bool is_write, std::uint64_t length) {
    if (length < kLarge || most_ == 0) return false;
    const unsigned waiting = apart_.load(std::memory_order_relaxed);
    if (waiting > 0) {
      trust_.store(kTrust, std::memory_order_relaxed);
      // File systems let one write a file at a time: the guest's thread would only wait for the other.
      if (waiting >= most_ && !is_write) return false;
    } else if (const unsigned trust = trust_.load(std::memory_order_relaxed); trust > 0) {
      trust_.store(trust - 1, std::memory_order_relaxed);
    } else if (at_once_.fetch_add(1, std::memory_order_relaxed) % kTryOneIn != 0) {
      return false;
    }
    apart_.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  void ended() { apart_.fetch_sub(1, std::memory_order_relaxed); }

  /// Less is copied before another thread has woken up.
  static constexpr std::uint64_t kLarge = 256 * 1024;
  static constexpr unsigned kTryOneIn = 32;

 private:
  /// Reads that wait for a thread, for each of them; beyond that the guest's own time is better spent copying.
  static constexpr unsigned kQueued = 3;
  /// How many requests in a row may come alone before the guest is taken for one that waits.
  static constexpr unsigned kTrust = 4;

  const unsigned most_;
  std::atomic<unsigned> apart_ = 0;
  std::atomic<unsigned> trust_ = 0;
  std::atomic<unsigned> at_once_ = 0;
};

}  // namespace doppel::storage
