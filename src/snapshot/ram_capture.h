#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/result.h"
#include "memory/guest_memory.h"

namespace doppel::snapshot {

/// Takes RAM as it is at one instant while the guest goes on writing: a page that is about to change is copied first,
/// by whoever changes it; all others are copied by the thread that is in write().
///
/// Set as the memory's WriteObserver before the first begin(), and as long as the memory is written.
class RamCapture : public memory::WriteObserver {
 public:
  explicit RamCapture(memory::GuestMemory& memory);

  using PageBits = std::vector<std::uint64_t>;  ///< page n is bit n % 64 of word n / 64

  /// The instant, while the machine is stopped; its engines then forget their write rights. `wanted`: which pages are
  /// taken.
  void begin(const PageBits& wanted);

  /// Gets each page that was wanted, in no order; the bytes are valid during the call. An error ends the capture.
  using Sink = std::function<Result<void>(std::uint64_t page, std::span<const std::byte> contents)>;
  /// Once after each begin(), by any thread: until all pages have been given to `sink`. Pages that follow one another
  /// are given one after the other where nobody was about to write them.
  Result<void> write(const Sink& sink);

  void before_write(std::uint64_t page) override;

 private:
  using Page = std::array<std::byte, memory::kPageSize>;
  struct Copy {
    std::uint64_t page;
    std::unique_ptr<Page> contents;
  };

  Result<void> take_word(std::uint64_t word, std::vector<std::byte>& buffer, const Sink& sink);
  Result<void> take_copies(const Sink& sink, bool all);
  void end();

  /// What writers may have copied and nobody written down yet: beyond that they wait.
  static constexpr std::size_t kMaxCopies = 4096;

  memory::GuestMemory& memory_;
  const std::uint64_t words_;
  std::atomic<bool> active_ = false;
  std::unique_ptr<std::atomic<std::uint64_t>[]> claimed_;  ///< somebody copies, or has copied, this page
  std::unique_ptr<std::atomic<std::uint64_t>[]> done_;     ///< it may be written now

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Copy> copies_;
  std::vector<std::unique_ptr<Page>> spare_;
  std::uint64_t missing_ = 0;  ///< pages that are neither in copies_ nor taken
};

}  // namespace doppel::snapshot
