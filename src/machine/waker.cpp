#include "machine/waker.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

namespace doppel::machine {

void Waker::sleep(const x86::Attention& attention, time::Nanoseconds host_deadline) {
  sleeping_.store(1, std::memory_order_seq_cst);
  // Sequentially consistent on both sides: either this sees the attention, or wake() sees the sleeper.
  if (attention.pending() != 0) {
    sleeping_.store(0, std::memory_order_relaxed);
    return;
  }
  timespec until{};
  const bool bounded = host_deadline != time::kNever;
  if (bounded) {
    until.tv_sec = host_deadline / time::kSecond;
    until.tv_nsec = host_deadline % time::kSecond;
  }
  syscall(SYS_futex, &sleeping_, FUTEX_WAIT_BITSET_PRIVATE, 1, bounded ? &until : nullptr, nullptr,
          FUTEX_BITSET_MATCH_ANY);
  sleeping_.store(0, std::memory_order_relaxed);
}

void Waker::wake() {
  // A read-modify-write instead of a fence and a load: ThreadSanitizer does not see fences.
  if (sleeping_.fetch_or(0, std::memory_order_seq_cst) != 0 && sleeping_.exchange(0) != 0) {
    syscall(SYS_futex, &sleeping_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
  }
}

}  // namespace doppel::machine
