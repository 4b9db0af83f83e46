#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "memory/guest_memory.h"

namespace doppel::devices::virtio {

/// A piece of guest RAM that one descriptor names, checked to lie in RAM.
struct Buffer {
  memory::GuestPhysical address = 0;
  std::uint32_t length = 0;
  std::byte* host = nullptr;
};

/// Copies from buffers, beginning at `offset` of their concatenation; returns how many bytes there were for `out`.
std::size_t gather(std::span<const Buffer> buffers, std::uint64_t offset, std::span<std::byte> out);
/// Copies into buffers and notes what was written; returns how many bytes had room.
std::size_t scatter(memory::GuestMemory& memory, std::span<const Buffer> buffers, std::uint64_t offset,
                    std::span<const std::byte> bytes);
std::uint64_t total_bytes(std::span<const Buffer> buffers);
/// The buffers that cover `length` bytes from `offset`; fewer when there are not as many.
std::vector<Buffer> slice(std::span<const Buffer> buffers, std::uint64_t offset, std::uint64_t length);

/// One request of the driver: a descriptor chain (virtio 1.2, 2.7.4), what the device may read first, what it may write
/// after that. Reused from request to request, so that its vectors keep their storage.
struct Chain {
  std::uint16_t head = 0;
  std::vector<Buffer> readable;
  std::vector<Buffer> writable;

  /// Reads a structure from the readable part; false when it is shorter.
  template <class T>
  bool read(std::uint64_t offset, T& value) const {
    return gather(readable, offset, std::as_writable_bytes(std::span{&value, 1})) == sizeof value;
  }
};

}  // namespace doppel::devices::virtio
