#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

/// Scattered memory as one sequence of bytes.
namespace doppel::storage {

using Buffers = std::span<const iovec>;

inline iovec as_iovec(std::span<std::byte> bytes) {
  return {bytes.data(), bytes.size()};
}
/// For writing: iovec has no const form.
inline iovec as_iovec(std::span<const std::byte> bytes) {
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};  // NOLINT(cppcoreguidelines-pro-type-const-cast)
}

std::uint64_t total_size(Buffers buffers);
/// Appends to `out` the pieces that make up bytes [offset, offset + length) of `buffers`.
void append_slice(Buffers buffers, std::uint64_t offset, std::uint64_t length, std::vector<iovec>& out);
std::vector<iovec> slice(Buffers buffers, std::uint64_t offset, std::uint64_t length);
void fill_zero(Buffers buffers);
/// Copies all of `from` into the start of `to`.
void scatter(std::span<const std::byte> from, Buffers to);
/// Fills `to` from the start of `from`.
void gather(Buffers from, std::span<std::byte> to);
bool is_zero(std::span<const std::byte> bytes);

}  // namespace doppel::storage
