#include "devices/virtio/vsock_connection.h"

#include <sys/socket.h>

#include <cerrno>

namespace doppel::devices::virtio {
namespace {

/// Bytes that the socket took, none when it is full, -1 when it is closed.
ssize_t send_some(int fd, std::span<const std::byte> bytes) {
  for (;;) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) return sent;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
    if (errno != EINTR) return -1;
  }
}

}  // namespace

bool VsockConnection::write(std::span<const Buffer> buffers, std::uint64_t offset, std::uint32_t length) {
  const std::size_t kept = unwritten_.size() - written_;
  if (length > kBufferBytes - kept) return false;
  for (const Buffer& buffer : slice(buffers, offset, length)) {
    std::span<const std::byte> bytes(buffer.host, buffer.length);
    while (!bytes.empty() && !has_unwritten()) {
      const ssize_t sent = send_some(fd_.get(), bytes);
      if (sent < 0) return false;
      if (sent == 0) break;
      forwarded_ += static_cast<std::uint32_t>(sent);
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
    }
    unwritten_.insert(unwritten_.end(), bytes.begin(), bytes.end());
  }
  return true;
}

bool VsockConnection::flush() {
  while (has_unwritten()) {
    const ssize_t sent = send_some(fd_.get(), std::span(unwritten_).subspan(written_));
    if (sent < 0) return false;
    if (sent == 0) break;
    written_ += static_cast<std::size_t>(sent);
    forwarded_ += static_cast<std::uint32_t>(sent);
  }
  unwritten_.erase(unwritten_.begin(), unwritten_.begin() + static_cast<std::ptrdiff_t>(written_));
  written_ = 0;
  return true;
}

}  // namespace doppel::devices::virtio
