#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "storage/image.h"

namespace doppel::test {

/// Applies random operations to an image and to a plain buffer, and compares what reads return.
class RandomOperations {
 public:
  RandomOperations(storage::Image& image, std::vector<std::byte>& reference, std::uint64_t seed,
                   std::uint64_t largest = 300'000)
      : image_(image), reference_(reference), random_(seed), largest_(largest) {}

  /// Empty, or what went wrong.
  std::string run(int count) {
    for (int i = 0; i < count; ++i) {
      if (std::string wrong = one(); !wrong.empty()) return wrong + " in operation " + std::to_string(i);
    }
    return {};
  }

  /// Whether discarded ranges have to read as zeros (else: anything, and the reference takes it over).
  bool discard_zeroes = true;

 private:
  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }

  std::string one() {
    const std::uint64_t size = reference_.size();
    const std::uint64_t grain = below(3) == 0 ? 65536 : 512;
    std::uint64_t offset = below(size) / grain * grain;
    std::uint64_t length = std::min((1 + below(below(2) == 0 ? largest_ : 8192) / grain) * grain, size - offset);
    const std::string where = std::to_string(length) + " bytes at " + std::to_string(offset);
    const auto part = std::span(reference_).subspan(offset, length);
    const auto failed = [&](const char* what, int error) {
      return error == 0 ? std::string() : std::string(what) + " of " + where + ": " + std::strerror(error);
    };
    switch (below(10)) {
      case 0:
        std::ranges::fill(part, std::byte{0});
        return failed("write_zeroes", image_.write_zeroes(offset, length, below(2) == 0));
      case 1: {
        if (const int error = image_.discard(offset, length); error != 0) return failed("discard", error);
        // Only what is covered by whole units changes: take over what there is, but it must be old or zero.
        std::vector<std::byte> now(length);
        const iovec buffer = storage::as_iovec(std::span(now));
        if (const int error = image_.read(offset, {&buffer, 1}); error != 0) return failed("read", error);
        for (std::uint64_t i = 0; i < length; ++i) {
          if (now[i] != part[i] && now[i] != std::byte{0} && discard_zeroes)
            return "discard of " + where + " left something else";
        }
        std::ranges::copy(now, part.begin());
        return {};
      }
      case 2:
        return failed("flush", image_.flush());
      case 3:
      case 4:
      case 5: {
        std::vector<std::byte> read(length);
        const std::uint64_t cut = below(length);
        const iovec pieces[] = {{read.data(), cut}, {read.data() + cut, length - cut}};
        if (const int error = image_.read(offset, pieces); error != 0) return failed("read", error);
        return std::ranges::equal(read, part) ? std::string() : "read of " + where + " is wrong";
      }
      default: {
        const auto seed = static_cast<std::uint8_t>(1 + below(255));
        for (std::uint64_t i = 0; i < length; ++i) part[i] = static_cast<std::byte>(seed + i / 512 * 7);
        const std::uint64_t cut = below(length);
        const iovec pieces[] = {{part.data(), cut}, {part.data() + cut, length - cut}};
        return failed("write", image_.write(offset, pieces));
      }
    }
  }

  storage::Image& image_;
  std::vector<std::byte>& reference_;
  std::mt19937_64 random_;
  std::uint64_t largest_;
};

}  // namespace doppel::test
