#include "snapshot/ram_capture.h"

#include <bit>
#include <cstring>
#include <thread>

namespace doppel::snapshot {
namespace {

constexpr std::uint64_t kPagesPerWord = 64;

}  // namespace

RamCapture::RamCapture(memory::GuestMemory& memory)
    : memory_(memory),
      words_(((memory.size() >> memory::kPageShift) + kPagesPerWord - 1) / kPagesPerWord),
      claimed_(std::make_unique<std::atomic<std::uint64_t>[]>(words_)),
      done_(std::make_unique<std::atomic<std::uint64_t>[]>(words_)) {}

void RamCapture::begin(const PageBits& wanted) {
  copies_.clear();
  missing_ = 0;
  for (std::uint64_t i = 0; i < words_; ++i) {
    const std::uint64_t bits = i < wanted.size() ? wanted[i] : 0;
    missing_ += static_cast<unsigned>(std::popcount(bits));
    claimed_[i].store(~bits, std::memory_order_relaxed);
    done_[i].store(~bits, std::memory_order_relaxed);
  }
  active_.store(true, std::memory_order_release);
}

void RamCapture::before_write(std::uint64_t page) {
  if (!active_.load(std::memory_order_acquire)) return;
  const std::uint64_t word = page / kPagesPerWord;
  const std::uint64_t bit = std::uint64_t{1} << (page % kPagesPerWord);
  if ((done_[word].load(std::memory_order_acquire) & bit) != 0) return;
  if ((claimed_[word].fetch_or(bit) & bit) != 0) {
    // Somebody is copying it, which takes microseconds.
    while ((done_[word].load(std::memory_order_acquire) & bit) == 0) std::this_thread::yield();
    return;
  }
  std::unique_ptr<Page> contents;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return copies_.size() < kMaxCopies || !active_; });
    if (!spare_.empty()) {
      contents = std::move(spare_.back());
      spare_.pop_back();
    }
  }
  if (contents == nullptr) contents = std::make_unique<Page>();
  std::memcpy(contents->data(), memory_.page_at(page), memory::kPageSize);
  done_[word].fetch_or(bit, std::memory_order_release);
  {
    const std::scoped_lock lock(mutex_);
    copies_.push_back({page, std::move(contents)});
    --missing_;
  }
  changed_.notify_all();
}

Result<void> RamCapture::take_word(std::uint64_t word, std::vector<std::byte>& buffer, const Sink& sink) {
  const std::uint64_t mine = ~claimed_[word].fetch_or(~std::uint64_t{0});
  if (mine == 0) return {};
  for (std::uint64_t bits = mine; bits != 0; bits &= bits - 1) {
    const auto index = static_cast<unsigned>(std::countr_zero(bits));
    std::memcpy(&buffer[index * memory::kPageSize], memory_.page_at(word * kPagesPerWord + index), memory::kPageSize);
  }
  done_[word].fetch_or(mine, std::memory_order_release);
  {
    const std::scoped_lock lock(mutex_);
    missing_ -= static_cast<unsigned>(std::popcount(mine));
  }
  for (std::uint64_t bits = mine; bits != 0; bits &= bits - 1) {
    const auto index = static_cast<unsigned>(std::countr_zero(bits));
    const std::span<const std::byte> contents(&buffer[index * memory::kPageSize], memory::kPageSize);
    if (Result<void> taken = sink(word * kPagesPerWord + index, contents); !taken) return taken;
  }
  return {};
}

/// Those that are there, or (`all`) all that are to come.
Result<void> RamCapture::take_copies(const Sink& sink, bool all) {
  for (;;) {
    Copy copy;
    {
      std::unique_lock lock(mutex_);
      if (all) changed_.wait(lock, [this] { return !copies_.empty() || missing_ == 0; });
      if (copies_.empty()) return {};
      copy = std::move(copies_.front());
      copies_.pop_front();
    }
    changed_.notify_all();
    if (Result<void> taken = sink(copy.page, *copy.contents); !taken) return taken;
    const std::scoped_lock lock(mutex_);
    if (spare_.size() < kMaxCopies) spare_.push_back(std::move(copy.contents));
  }
}

void RamCapture::end() {
  {
    const std::scoped_lock lock(mutex_);
    active_.store(false, std::memory_order_release);
    copies_.clear();
    spare_.clear();
  }
  changed_.notify_all();
}

Result<void> RamCapture::write(const Sink& sink) {
  std::vector<std::byte> buffer(kPagesPerWord * memory::kPageSize);
  Result<void> result;
  for (std::uint64_t word = 0; word < words_ && result.ok(); ++word) {
    result = take_word(word, buffer, sink);
    if (result) result = take_copies(sink, false);
  }
  if (result) result = take_copies(sink, true);
  end();
  return result;
}

}  // namespace doppel::snapshot
