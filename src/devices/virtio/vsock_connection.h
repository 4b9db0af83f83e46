#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/fd.h"
#include "devices/virtio/chain.h"

namespace doppel::devices::virtio {

/// struct virtio_vsock_hdr (virtio 1.2, 5.10.6).
struct [[gnu::packed]] VsockHeader {
  std::uint64_t source_cid = 0;
  std::uint64_t destination_cid = 0;
  std::uint32_t source_port = 0;
  std::uint32_t destination_port = 0;
  std::uint32_t length = 0;
  std::uint16_t type = 0;
  std::uint16_t operation = 0;
  std::uint32_t flags = 0;
  std::uint32_t buffer_allocation = 0;
  std::uint32_t forward_count = 0;
};
static_assert(sizeof(VsockHeader) == 44);

enum class VsockOperation : std::uint16_t {
  Request = 1,
  Response = 2,
  Reset = 3,
  Shutdown = 4,
  ReadWrite = 5,
  CreditUpdate = 6,
  CreditRequest = 7,
};
inline constexpr std::uint16_t kVsockStream = 1;
inline constexpr std::uint32_t kShutdownReceive = 1, kShutdownSend = 2;

/// One stream: the host's socket, and the credit of both sides (virtio 1.2, 5.10.6.3). Counters are modulo 2^32.
class VsockConnection {
 public:
  /// What the guest may send ahead of what the host's socket has taken.
  static constexpr std::uint32_t kBufferBytes = 256 * 1024;

  enum class State : std::uint8_t { Requested, Established };

  VsockConnection(UniqueFd fd, State state) : state(state), fd_(std::move(fd)) {}

  State state;
  bool shutdown_sent = false;  ///< the host will send no more
  bool guest_sends_no_more = false;
  bool guest_takes_no_more = false;
  std::uint32_t watched_events = 0;  ///< of epoll

  int fd() const { return fd_.get(); }

  /// What every packet of the guest says about its side.
  void note_credit(const VsockHeader& header) {
    peer_allocation_ = header.buffer_allocation;
    peer_forwarded_ = header.forward_count;
  }
  /// How many bytes may be sent to the guest now.
  std::uint32_t credit() const {
    const std::uint32_t in_flight = sent_ - peer_forwarded_;
    return in_flight < peer_allocation_ ? peer_allocation_ - in_flight : 0;
  }
  void note_sent(std::uint32_t bytes) { sent_ += bytes; }

  /// Passes the guest's bytes on, keeping what the socket does not take yet. False when the guest has sent more than it
  /// may, or the socket is closed.
  bool write(std::span<const Buffer> buffers, std::uint64_t offset, std::uint32_t length);
  /// Writes what was kept; false when the socket is closed.
  bool flush();
  bool has_unwritten() const { return written_ < unwritten_.size(); }

  std::uint32_t forwarded() const { return forwarded_; }
  /// The guest should hear of what has been taken, before it runs out of credit.
  bool owes_credit_update() const { return forwarded_ - told_ >= kBufferBytes / 2; }
  void note_told() { told_ = forwarded_; }

 private:
  UniqueFd fd_;
  std::vector<std::byte> unwritten_;
  std::size_t written_ = 0;  ///< of unwritten_
  std::uint32_t peer_allocation_ = 0;
  std::uint32_t peer_forwarded_ = 0;
  std::uint32_t sent_ = 0;
  std::uint32_t forwarded_ = 0;
  std::uint32_t told_ = 0;
};

}  // namespace doppel::devices::virtio
