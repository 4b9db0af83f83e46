#include "devices/virtio/chain.h"

#include <algorithm>
#include <cstring>

namespace doppel::devices::virtio {
namespace {

/// Calls `piece(buffer, offset_in_buffer, done, length)` for the parts of [offset, offset + size).
template <class Piece>
std::size_t for_each_piece(std::span<const Buffer> buffers, std::uint64_t offset, std::uint64_t size,
                           const Piece& piece) {
  std::uint64_t done = 0;
  for (const Buffer& buffer : buffers) {
    if (done == size) break;
    if (offset >= buffer.length) {
      offset -= buffer.length;
      continue;
    }
    const std::uint64_t length = std::min<std::uint64_t>(buffer.length - offset, size - done);
    piece(buffer, offset, done, length);
    done += length;
    offset = 0;
  }
  return static_cast<std::size_t>(done);
}

}  // namespace

std::size_t gather(std::span<const Buffer> buffers, std::uint64_t offset, std::span<std::byte> out) {
  return for_each_piece(buffers, offset, out.size(),
                        [&](const Buffer& buffer, std::uint64_t start, std::uint64_t done, std::uint64_t length) {
                          std::memcpy(out.data() + done, buffer.host + start, length);
                        });
}

std::size_t scatter(memory::GuestMemory& memory, std::span<const Buffer> buffers, std::uint64_t offset,
                    std::span<const std::byte> bytes) {
  return for_each_piece(buffers, offset, bytes.size(),
                        [&](const Buffer& buffer, std::uint64_t start, std::uint64_t done, std::uint64_t length) {
                          std::memcpy(buffer.host + start, bytes.data() + done, length);
                          memory.note_device_write(buffer.address + start, length);
                        });
}

std::uint64_t total_bytes(std::span<const Buffer> buffers) {
  std::uint64_t total = 0;
  for (const Buffer& buffer : buffers) total += buffer.length;
  return total;
}

std::vector<Buffer> slice(std::span<const Buffer> buffers, std::uint64_t offset, std::uint64_t length) {
  std::vector<Buffer> pieces;
  for_each_piece(buffers, offset, length,
                 [&](const Buffer& buffer, std::uint64_t start, std::uint64_t, std::uint64_t size) {
                   pieces.push_back({buffer.address + start, static_cast<std::uint32_t>(size), buffer.host + start});
                 });
  return pieces;
}

}  // namespace doppel::devices::virtio
