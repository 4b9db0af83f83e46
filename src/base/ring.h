#pragma once

#include <array>
#include <cstddef>

namespace doppel {

/// A first-in first-out queue of fixed capacity without allocation: the FIFOs of UARTs and keyboards. Equal contents
/// are equal rings, wherever they lie in the storage; state::Visitor knows how to keep one.
template <class T, std::size_t N>
class Ring {
 public:
  static constexpr std::size_t kCapacity = N;

  bool empty() const { return size_ == 0; }
  bool full() const { return size_ == N; }
  std::size_t size() const { return size_; }
  void clear() { size_ = 0; }

  /// False when it is full; the value is then lost.
  bool push(const T& value) {
    if (full()) return false;
    storage_[(first_ + size_) % N] = value;
    ++size_;
    return true;
  }

  /// Takes the oldest; T{} when there is none.
  T pop() {
    if (empty()) return T{};
    const T value = storage_[first_];
    first_ = (first_ + 1) % N;
    --size_;
    return value;
  }

  /// By age, 0 is the oldest; `index` is below size().
  const T& operator[](std::size_t index) const { return storage_[(first_ + index) % N]; }
  T& operator[](std::size_t index) { return storage_[(first_ + index) % N]; }

  bool operator==(const Ring& other) const {
    if (size_ != other.size_) return false;
    for (std::size_t i = 0; i < size_; ++i) {
      if (!((*this)[i] == other[i])) return false;
    }
    return true;
  }

 private:
  std::array<T, N> storage_{};
  std::size_t first_ = 0;
  std::size_t size_ = 0;
};

}  // namespace doppel
