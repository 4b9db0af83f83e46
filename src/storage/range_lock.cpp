#include "storage/range_lock.h"

namespace doppel::storage {

RangeLock::Hold& RangeLock::Hold::operator=(Hold&& other) noexcept {
  if (this != &other) {
    release();
    lock_ = other.lock_;
    range_ = other.range_;
    other.lock_ = nullptr;
  }
  return *this;
}

void RangeLock::Hold::release() {
  if (lock_ == nullptr) return;
  {
    const std::lock_guard guard(lock_->mutex_);
    lock_->ranges_.erase(range_);
    // Under the mutex: the lock may be gone as soon as a waiter has got in and out.
    lock_->released_.notify_all();
  }
  lock_ = nullptr;
}

bool RangeLock::conflicts(std::list<Range>::const_iterator upto, const Range& range) const {
  for (auto other = ranges_.begin(); other != upto; ++other) {
    const bool overlap = other->begin < range.end && range.begin < other->end;
    if (overlap && (other->mode == Mode::Exclusive || range.mode == Mode::Exclusive)) return true;
  }
  return false;
}

RangeLock::Hold RangeLock::acquire(std::uint64_t begin, std::uint64_t end, Mode mode) {
  std::unique_lock guard(mutex_);
  const auto range = ranges_.insert(ranges_.end(), Range{begin, end, mode});
  released_.wait(guard, [&] { return !conflicts(range, *range); });
  return {this, range};
}

bool RangeLock::try_acquire(std::uint64_t begin, std::uint64_t end, Mode mode, Hold& hold) {
  const std::lock_guard guard(mutex_);
  const Range range{begin, end, mode};
  if (conflicts(ranges_.end(), range)) return false;
  hold = Hold(this, ranges_.insert(ranges_.end(), range));
  return true;
}

}  // namespace doppel::storage
