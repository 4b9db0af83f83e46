#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>

namespace doppel {

/// An array of a fixed length whose elements begin as zero bits, which must be what a T is by default. Unlike a vector
/// it writes nothing when it is made: of a large one only what is used takes memory and time.
template <class T>
class ZeroedArray {
  static_assert(std::is_trivially_destructible_v<T>);

 public:
  explicit ZeroedArray(std::size_t size) : size_(size), elements_(static_cast<T*>(std::calloc(size, sizeof(T)))) {
    if (elements_ == nullptr) throw std::bad_alloc();
  }

  T& operator[](std::size_t index) { return elements_.get()[index]; }
  const T& operator[](std::size_t index) const { return elements_.get()[index]; }
  std::size_t size() const { return size_; }
  T* begin() { return elements_.get(); }
  T* end() { return begin() + size_; }

 private:
  struct Free {
    void operator()(T* elements) const { std::free(elements); }
  };
  std::size_t size_;
  std::unique_ptr<T, Free> elements_;
};

}  // namespace doppel
