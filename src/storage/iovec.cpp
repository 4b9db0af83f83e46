#include "storage/iovec.h"

#include <algorithm>
#include <cstring>

namespace doppel::storage {

std::uint64_t total_size(Buffers buffers) {
  std::uint64_t sum = 0;
  for (const iovec& piece : buffers) sum += piece.iov_len;
  return sum;
}

void append_slice(Buffers buffers, std::uint64_t offset, std::uint64_t length, std::vector<iovec>& out) {
  for (const iovec& piece : buffers) {
    if (length == 0) return;
    if (offset >= piece.iov_len) {
      offset -= piece.iov_len;
      continue;
    }
    const std::uint64_t taken = std::min<std::uint64_t>(piece.iov_len - offset, length);
    out.push_back({static_cast<std::byte*>(piece.iov_base) + offset, taken});
    offset = 0;
    length -= taken;
  }
}

std::vector<iovec> slice(Buffers buffers, std::uint64_t offset, std::uint64_t length) {
  std::vector<iovec> out;
  append_slice(buffers, offset, length, out);
  return out;
}

void fill_zero(Buffers buffers) {
  for (const iovec& piece : buffers) {
    if (piece.iov_len != 0) std::memset(piece.iov_base, 0, piece.iov_len);
  }
}

void scatter(std::span<const std::byte> from, Buffers to) {
  for (const iovec& piece : to) {
    const std::size_t taken = std::min(piece.iov_len, from.size());
    if (taken != 0) std::memcpy(piece.iov_base, from.data(), taken);
    from = from.subspan(taken);
  }
}

void gather(Buffers from, std::span<std::byte> to) {
  for (const iovec& piece : from) {
    const std::size_t taken = std::min(piece.iov_len, to.size());
    if (taken != 0) std::memcpy(to.data(), piece.iov_base, taken);
    to = to.subspan(taken);
  }
}

bool is_zero(std::span<const std::byte> bytes) {
  // All bytes are zero if the first is and each equals its successor.
  return bytes.empty() ||
         (bytes[0] == std::byte{0} && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

}  // namespace doppel::storage
