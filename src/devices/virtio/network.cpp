#include "devices/virtio/network.h"

#include <algorithm>
#include <utility>

#include "base/bits.h"

namespace doppel::devices::virtio {
namespace {

constexpr std::uint32_t kEthernetController = 0x02'0000;
constexpr std::uint16_t kQueueSize = 256;

// 5.1.3
constexpr unsigned kChecksum = 0, kGuestChecksum = 1, kMtu = 3, kMac = 5, kGuestTso4 = 7, kGuestTso6 = 8, kGuestEcn = 9,
                   kHostTso4 = 11, kHostTso6 = 12, kHostEcn = 13, kMergeableBuffers = 15, kStatus = 16;

// 5.1.4, struct virtio_net_config
constexpr std::size_t kMacOffset = 0, kStatusOffset = 6, kMtuOffset = 10;
constexpr std::uint16_t kLinkUp = 1;

constexpr std::size_t kHeader = sizeof(net::FrameHeader);

std::uint64_t features_of(const net::Backend& backend) {
  std::uint64_t features = bit(kChecksum) | bit(kGuestChecksum) | bit(kMtu) | bit(kMac) | bit(kHostTso4) |
                           bit(kHostTso6) | bit(kHostEcn) | bit(kMergeableBuffers) | bit(kStatus);
  if (backend.receives_offloads()) features |= bit(kGuestTso4) | bit(kGuestTso6) | bit(kGuestEcn);
  return features;
}

}  // namespace

Network::Network(std::string name, const MacAddress& mac, std::unique_ptr<net::Backend> backend,
                 memory::GuestMemory& memory)
    : Device(std::move(name),
             {.type = DeviceType::Network,
              .class_code = kEthernetController,
              .features = features_of(*backend),
              .queues = {kQueueSize, kQueueSize}},
             memory),
      backend_(std::move(backend)),
      frame_(net::kMaxFrame) {
  std::copy(mac.begin(), mac.end(), config_.begin() + kMacOffset);
  store_le(&config_[kStatusOffset], kLinkUp);
  store_le(&config_[kMtuOffset], backend_->mtu());
  backend_->attach(*this, lock());
}

Network::~Network() = default;

void Network::describe_device(state::Visitor& v) {
  net::TcpConnections connections;
  if (!v.is_loading()) {
    const std::lock_guard guard(lock());
    connections = backend_->connections();
  }
  v.field(50, "connections", connections);
  v.on_loaded([this, connections] {
    const std::lock_guard guard(lock());
    backend_->cut(connections);
  });
}

void Network::on_driver_ok() {
  if (!backend_->receives_offloads()) return;
  backend_->set_receive_offloads({.checksum = has_feature(kGuestChecksum),
                                  .tso4 = has_feature(kGuestTso4),
                                  .tso6 = has_feature(kGuestTso6),
                                  .ecn = has_feature(kGuestEcn)});
}

void Network::on_notify(unsigned index) {
  if (index == kTransmitQueue) return transmit();
  backend_->resume_receiving();
  received_all();
}

void Network::transmit() {
  do {
    queue(kTransmitQueue).refuse_notification();
    while (take(kTransmitQueue, chain_)) {
      net::FrameHeader header;
      if (!chain_.read(0, header)) return fail("a frame without a header");
      const std::uint64_t size = total_bytes(chain_.readable) - kHeader;
      if (size <= frame_.size()) {
        const auto frame = std::span(frame_).first(static_cast<std::size_t>(size));
        gather(chain_.readable, kHeader, frame);
        backend_->send(header, frame);
      }
      queue(kTransmitQueue).push(chain_.head, 0);
    }
  } while (rest(kTransmitQueue));
  backend_->sent_all();
  interrupt(kTransmitQueue);
}

bool Network::take_buffers(std::uint64_t bytes) {
  receive_count_ = 0;
  std::uint64_t room = 0;
  while (room < bytes) {
    if (receive_count_ == receive_chains_.size()) receive_chains_.emplace_back();
    Chain& chain = receive_chains_[receive_count_];
    if (receive_count_ == kQueueSize || !take(kReceiveQueue, chain)) {
      for (; receive_count_ > 0; --receive_count_) queue(kReceiveQueue).unpop();
      return false;
    }
    ++receive_count_;
    const std::uint64_t more = total_bytes(chain.writable);
    if (more < (receive_count_ == 1 ? kHeader : 1)) {
      fail("a receive buffer without room");
      return false;
    }
    room += more;
    if (room < bytes && !has_feature(kMergeableBuffers)) break;
  }
  return true;
}

bool Network::receive(const net::FrameHeader& header, std::span<const std::byte> frame) {
  if (is_paused()) return false;
  if (!is_active() || frame.size() > net::kMaxFrame) return true;  // nobody is listening: the frame is lost
  if (!take_buffers(kHeader + frame.size())) {
    queue(kReceiveQueue).want_notification();
    if (!take_buffers(kHeader + frame.size())) return false;
  }
  net::FrameHeader out = header;
  if (!has_feature(kGuestChecksum)) out.flags = 0;
  out.buffers = static_cast<std::uint16_t>(receive_count_);
  std::uint64_t done = 0;
  for (std::size_t i = 0; i < receive_count_; ++i) {
    const Chain& chain = receive_chains_[i];
    std::size_t written = 0;
    if (i == 0) written = scatter(memory(), chain.writable, 0, std::as_bytes(std::span{&out, 1}));
    const std::size_t copied = scatter(memory(), chain.writable, written, frame.subspan(done));
    done += copied;
    // The driver must not see a part of a frame.
    queue(kReceiveQueue).fill(chain.head, static_cast<std::uint32_t>(written + copied));
  }
  queue(kReceiveQueue).publish();
  return true;
}

void Network::received_all() {
  interrupt(kReceiveQueue);
}

}  // namespace doppel::devices::virtio
