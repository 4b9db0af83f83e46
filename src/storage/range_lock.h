#pragma once

#include <condition_variable>
#include <cstdint>
#include <list>
#include <mutex>

namespace doppel::storage {

/// Shared and exclusive locks on ranges of a disk. A holder must not wait for a second range of the same lock. Who
/// waits is not overtaken for ever: a newcomer that conflicts with somebody waiting queues behind.
class RangeLock {
 public:
  enum class Mode : std::uint8_t { Shared, Exclusive };

 private:
  struct Range {
    std::uint64_t begin, end;
    Mode mode;
  };

 public:
  /// Releases on destruction, on whichever thread that is. The RangeLock outlives it.
  class Hold {
   public:
    Hold() = default;
    Hold(Hold&& other) noexcept : lock_(other.lock_), range_(other.range_) { other.lock_ = nullptr; }
    Hold& operator=(Hold&& other) noexcept;
    ~Hold() { release(); }
    void release();

   private:
    friend class RangeLock;
    Hold(RangeLock* lock, std::list<Range>::iterator range) : lock_(lock), range_(range) {}
    RangeLock* lock_ = nullptr;
    std::list<Range>::iterator range_;
  };

  /// Waits until [begin, end) is free of conflicts.
  Hold acquire(std::uint64_t begin, std::uint64_t end, Mode mode);
  /// The same if that needs no wait; else false.
  bool try_acquire(std::uint64_t begin, std::uint64_t end, Mode mode, Hold& hold);

 private:
  bool conflicts(std::list<Range>::const_iterator upto, const Range& range) const;

  std::mutex mutex_;
  std::condition_variable released_;
  std::list<Range> ranges_;  ///< held and waited for, in order of arrival: each waits for those before it only
};

}  // namespace doppel::storage
