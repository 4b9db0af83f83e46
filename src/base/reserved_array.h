#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "base/mmap.h"

namespace doppel {

/// An array that grows in place. Address space for all of its elements is reserved from the beginning, memory is taken
/// as they are added; so none of them ever moves, and none is copied. Not thread-safe.
template <class T>
class ReservedArray {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  static Result<ReservedArray> create(std::size_t capacity) {
    Result<Mapping> mapping = Mapping::anonymous(std::max<std::size_t>(capacity, 1) * sizeof(T));
    if (!mapping) return mapping.error();
    return ReservedArray(std::move(*mapping), capacity);
  }

  std::size_t size() const { return size_; }
  bool has_room(std::size_t count) const { return count <= capacity_ - size_; }
  /// There must be room for them. What is returned stays where it is until clear().
  std::span<T> append(std::span<const T> elements) {
    T* const first = data() + size_;
    std::uninitialized_copy(elements.begin(), elements.end(), first);
    size_ += elements.size();
    return {first, elements.size()};
  }
  /// The memory is kept.
  void clear() { size_ = 0; }

  const T& operator[](std::size_t index) const { return data()[index]; }

 private:
  ReservedArray(Mapping mapping, std::size_t capacity) : mapping_(std::move(mapping)), capacity_(capacity) {}
  T* data() const { return reinterpret_cast<T*>(mapping_.data()); }

  Mapping mapping_;
  std::size_t capacity_ = 0, size_ = 0;
};

}  // namespace doppel
