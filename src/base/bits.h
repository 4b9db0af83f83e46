#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace doppel {

/// A value with only bit `n` set.
constexpr std::uint64_t bit(unsigned n) {
  return std::uint64_t{1} << n;
}

/// Bits `high` to `low` of `value`, both included, moved down to bit 0.
constexpr std::uint64_t bits(std::uint64_t value, unsigned high, unsigned low) {
  return (value >> low) & (high - low == 63 ? ~std::uint64_t{0} : bit(high - low + 1) - 1);
}

/// A mask of the lowest `count` bits; `count` is at most 64.
constexpr std::uint64_t low_mask(unsigned count) {
  return count >= 64 ? ~std::uint64_t{0} : bit(count) - 1;
}

/// `alignment` is a power of two.
constexpr std::uint64_t align_down(std::uint64_t value, std::uint64_t alignment) {
  return value & ~(alignment - 1);
}
constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) {
  return align_down(value + alignment - 1, alignment);
}

/// The low `bit_count` bits of `value`, sign-extended to 64 bits.
constexpr std::int64_t sign_extend(std::uint64_t value, unsigned bit_count) {
  const unsigned unused = 64 - bit_count;
  return static_cast<std::int64_t>(value << unused) >> unused;
}

/// Reads a little-endian value from memory of any alignment.
template <class T>
requires std::is_trivially_copyable_v<T> T load_le(const void* source) {
  T value;
  std::memcpy(&value, source, sizeof value);
  return value;
}

/// Writes a little-endian value to memory of any alignment.
template <class T>
requires std::is_trivially_copyable_v<T>
void store_le(void* target, T value) {
  std::memcpy(target, &value, sizeof value);
}

/// The value with its bytes in the other order.
template <std::unsigned_integral T>
constexpr T byte_swap(T value) {
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
  return value;
}

/// The same as load_le and store_le, big-endian.
template <std::unsigned_integral T>
T load_be(const void* source) {
  return byte_swap(load_le<T>(source));
}
template <std::unsigned_integral T>
void store_be(void* target, T value) {
  store_le(target, byte_swap(value));
}

}  // namespace doppel
