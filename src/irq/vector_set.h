#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "state/visitor.h"

namespace doppel::irq {

/// One bit per vector: IRR, ISR or TMR of a local APIC. Any thread may set, clear and test.
class VectorSet {
 public:
  void set(std::uint8_t vector) { word_of(vector).fetch_or(mask_of(vector), std::memory_order_acq_rel); }
  void clear(std::uint8_t vector) { word_of(vector).fetch_and(~mask_of(vector), std::memory_order_acq_rel); }
  void assign(std::uint8_t vector, bool value) { value ? set(vector) : clear(vector); }
  bool test(std::uint8_t vector) const {
    return (words_[vector / 32].load(std::memory_order_acquire) & mask_of(vector)) != 0;
  }

  /// The highest vector in the set, or -1.
  int highest() const {
    for (int i = 7; i >= 0; --i) {
      const std::uint32_t word = words_[static_cast<unsigned>(i)].load(std::memory_order_acquire);
      if (word != 0) return i * 32 + std::bit_width(word) - 1;
    }
    return -1;
  }

  void clear_all() {
    for (auto& word : words_) word.store(0, std::memory_order_release);
  }

  /// Vectors 32·i to 32·i+31, as the eight registers of each kind show them.
  std::uint32_t word(unsigned i) const { return words_[i].load(std::memory_order_acquire); }

  void describe(state::Visitor& v) {
    for (unsigned i = 0; i < words_.size(); ++i) {
      std::uint32_t word = words_[i].load(std::memory_order_relaxed);
      v.field(i + 1, kNames[i], word);
      words_[i].store(word, std::memory_order_relaxed);
    }
  }

 private:
  static constexpr std::array<const char*, 8> kNames = {"00", "20", "40", "60", "80", "a0", "c0", "e0"};

  static constexpr std::uint32_t mask_of(std::uint8_t vector) { return std::uint32_t{1} << (vector % 32); }
  std::atomic<std::uint32_t>& word_of(std::uint8_t vector) { return words_[vector / 32]; }

  std::array<std::atomic<std::uint32_t>, 8> words_{};
};

}  // namespace doppel::irq
