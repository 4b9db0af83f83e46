#include "storage/operations/copy.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/system_error.h"
#include "storage/operations/chain_map.h"
#include "storage/qcow2/image.h"

namespace doppel::storage {
namespace {

constexpr std::uint64_t kStep = 2U << 20;

class Copier {
 public:
  Copier(Image& source, Image& target, const CopyOptions& options, const Progress& progress)
      : source_(source),
        target_(target),
        options_(options),
        progress_(progress),
        size_(source.size()),
        compressed_target_(options.compress ? dynamic_cast<qcow2::Qcow2Image*>(&target) : nullptr),
        // Parts never share a cluster of the target.
        step_(std::max<std::uint64_t>(kStep, target.cluster_size())) {}

  Result<void> run() {
    if (options_.compress && compressed_target_ == nullptr) return Error{"only qcow2 images can be compressed"};
    const unsigned count = std::clamp(std::thread::hardware_concurrency(), 1U, 8U);
    std::vector<std::thread> threads;
    for (unsigned i = 1; i < count; ++i) threads.emplace_back([this] { work(); });
    work();
    for (std::thread& thread : threads) thread.join();
    if (error_) return *error_;
    if (progress_) progress_(size_, size_);
    return {};
  }

 private:
  void work() {
    std::vector<std::byte> buffer(step_);
    for (;;) {
      const std::uint64_t begin = next_.fetch_add(step_);
      if (begin >= size_ || failed_) return;
      auto copied = copy_part(begin, std::min(size_, begin + step_), buffer);
      const std::lock_guard guard(mutex_);
      if (!copied && !error_) error_ = copied.error();
      if (!copied) failed_ = true;
      done_ += std::min(size_, begin + step_) - begin;
      if (progress_) progress_(done_, size_);
    }
  }

  Result<void> copy_part(std::uint64_t begin, std::uint64_t end, std::vector<std::byte>& buffer) {
    bool empty = true;
    for (std::uint64_t at = begin; at < end;) {
      auto extent = chain_extent(source_, at, end - at);
      if (!extent) return extent.error();
      const std::span<std::byte> part(buffer.data() + (at - begin), extent->length);
      if (extent->zero) {
        std::ranges::fill(part, std::byte{0});
      } else {
        empty = false;
        const iovec piece = as_iovec(part);
        if (const int error = source_.read(at, {&piece, 1}); error != 0) {
          return system_error("cannot read " + source_.name(), error);
        }
      }
      at += extent->length;
    }
    const std::span<const std::byte> bytes(buffer.data(), end - begin);
    int error = 0;
    if (target_.backing()) {
      error = write_differences(begin, bytes);
    } else if (empty && options_.sparse_size != 0) {
      error = write_zeroes(begin, bytes.size());
    } else if (compressed_target_ != nullptr) {
      error = write_compressed(begin, bytes);
    } else {
      error = write_sparse(begin, bytes);
    }
    if (error != 0) return system_error("cannot write " + target_.name(), error);
    return {};
  }

  int write_zeroes(std::uint64_t offset, std::uint64_t length) {
    return options_.target_has_contents ? target_.write_zeroes(offset, length, true) : 0;
  }

  int write_compressed(std::uint64_t offset, std::span<const std::byte> bytes) {
    const std::uint64_t cluster = target_.cluster_size();
    for (std::uint64_t at = 0; at < bytes.size(); at += cluster) {
      const auto part = bytes.subspan(at, std::min<std::uint64_t>(cluster, bytes.size() - at));
      const int error = is_zero(part) ? write_zeroes(offset + at, part.size())
                                      : compressed_target_->write_compressed(offset + at, part);
      if (error != 0) return error;
    }
    return 0;
  }

  /// Writes the clusters that the target does not show already.
  int write_differences(std::uint64_t offset, std::span<const std::byte> bytes) {
    std::vector<std::byte> shown(bytes.size());
    const iovec piece = as_iovec(std::span(shown));
    if (const int error = target_.read(offset, {&piece, 1}); error != 0) return error;
    const std::uint64_t cluster = target_.cluster_size();
    for (std::uint64_t at = 0; at < bytes.size(); at += cluster) {
      const auto part = bytes.subspan(at, std::min<std::uint64_t>(cluster, bytes.size() - at));
      if (std::ranges::equal(part, std::span(shown).subspan(at, part.size()))) continue;
      const int error =
          compressed_target_ != nullptr ? write_compressed(offset + at, part) : write_sparse(offset + at, part);
      if (error != 0) return error;
    }
    return 0;
  }

  /// Writes all but runs of zeros that fill whole units of sparse_size.
  int write_sparse(std::uint64_t offset, std::span<const std::byte> bytes) {
    const std::uint64_t unit = options_.sparse_size != 0 ? options_.sparse_size : bytes.size();
    for (std::uint64_t at = 0; at < bytes.size();) {
      const auto unit_is_zero = [&](std::uint64_t from) {
        return options_.sparse_size != 0 &&
               is_zero(bytes.subspan(from, std::min<std::uint64_t>(unit, bytes.size() - from)));
      };
      const bool zero = unit_is_zero(at);
      std::uint64_t end = std::min<std::uint64_t>(at + unit, bytes.size());
      while (end < bytes.size() && unit_is_zero(end) == zero) end = std::min<std::uint64_t>(end + unit, bytes.size());
      const iovec piece = as_iovec(bytes.subspan(at, end - at));
      const int error = zero ? write_zeroes(offset + at, end - at) : target_.write(offset + at, {&piece, 1});
      if (error != 0) return error;
      at = end;
    }
    return 0;
  }

  Image& source_;
  Image& target_;
  const CopyOptions& options_;
  const Progress& progress_;
  const std::uint64_t size_;
  qcow2::Qcow2Image* const compressed_target_;
  const std::uint64_t step_;
  std::atomic<std::uint64_t> next_ = 0;
  std::atomic<bool> failed_ = false;
  std::mutex mutex_;
  std::uint64_t done_ = 0;
  std::optional<Error> error_;
};

}  // namespace

Result<void> copy_image(Image& source, Image& target, const CopyOptions& options, const Progress& progress) {
  if (target.size() < source.size()) return Error{target.name() + " is smaller than " + source.name()};
  return Copier(source, target, options, progress).run();
}

}  // namespace doppel::storage
