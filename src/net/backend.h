#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>

#include "net/tcp_connections.h"

/// What a network device is plugged into.
namespace doppel::net {

/// struct virtio_net_hdr_v1 (virtio 1.2, 5.1.6), which Linux's tap devices use as well: what the sender has left to be
/// done to a frame, or the receiver need not do.
struct FrameHeader {
  static constexpr std::uint8_t kNeedsChecksum = 1, kDataValid = 2;

  std::uint8_t flags = 0;
  std::uint8_t gso_type = 0;
  std::uint16_t header_length = 0;
  std::uint16_t gso_size = 0;
  std::uint16_t checksum_start = 0;
  std::uint16_t checksum_offset = 0;
  std::uint16_t buffers = 1;
};
static_assert(sizeof(FrameHeader) == 12);

/// The largest frame that is carried: 64 KiB of a segment and its headers.
inline constexpr std::size_t kMaxFrame = 65536 + 64;

/// Takes the frames that come from the network.
class Receiver {
 public:
  virtual ~Receiver() = default;
  /// False when there is no room: the backend keeps the frame and stops until resume_receiving().
  virtual bool receive(const FrameHeader& header, std::span<const std::byte> frame) = 0;
  /// Some frames have been received, and no more come for now.
  virtual void received_all() = 0;
};

/// What the driver lets be left to it or wants to leave to others; see linux/if_tun.h.
struct Offloads {
  bool checksum = false;
  bool tso4 = false;
  bool tso6 = false;
  bool ecn = false;
};

/// One network, at the end of the wire. Guarded by its device's lock, which the backend gets by attach() and takes in
/// its own callbacks; all functions are called with it held, but attach() and the destructor.
class Backend {
 public:
  virtual ~Backend() = default;

  /// Before anything else; both outlive the backend's last callback.
  virtual void attach(Receiver& receiver, std::mutex& lock) = 0;
  virtual std::uint16_t mtu() const = 0;
  /// Whether frames may come with work left to the receiver (checksums, segmentation).
  virtual bool receives_offloads() const = 0;
  virtual void set_receive_offloads(const Offloads& offloads) = 0;

  /// Sends one Ethernet frame, at once or never. `frame` may be changed.
  virtual void send(const FrameHeader& header, std::span<std::byte> frame) = 0;
  /// After the last of a number of frames.
  virtual void sent_all() = 0;
  /// The receiver has room again.
  virtual void resume_receiving() = 0;

  /// The guest's connections that end with this backend.
  virtual TcpConnections connections() { return {}; }
  /// The guest comes from a backend that is no more, with these: it is to learn soon that they are cut.
  virtual void cut(const TcpConnections&) {}
};

}  // namespace doppel::net
