#include "net/tap.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "base/system_error.h"

namespace doppel::net {
namespace {

constexpr std::uint16_t kDefaultMtu = 1500;
/// Frames in one go, so that the lock is free in between.
constexpr int kBurst = 64;

std::uint16_t mtu_of(const std::string& interface) {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  interface.copy(request.ifr_name, IFNAMSIZ - 1);
  if (::ioctl(socket.get(), SIOCGIFMTU, &request) != 0) return kDefaultMtu;
  return static_cast<std::uint16_t>(request.ifr_mtu);
}

}  // namespace

Result<TapInterface> TapInterface::open(const std::string& interface) {
  if (interface.empty() || interface.size() >= IFNAMSIZ) {
    return Error{fmt::format("ifname={}: the name of an interface has 1 to {} characters", interface, IFNAMSIZ - 1)};
  }
  UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) {
    return system_error(
        "cannot open /dev/net/tun, which tap needs (run as root, or have root open it to this user: "
        "chmod 666 /dev/net/tun; --net user needs no privilege)");
  }
  ifreq request{};
  interface.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (::ioctl(fd.get(), TUNSETIFF, &request) != 0) {
    return system_error(
        fmt::format("cannot use the tap interface {} (run as root, or have it made for this user: ip "
                    "tuntap add {} mode tap user $USER vnet_hdr)",
                    interface, interface));
  }
  const int header_size = sizeof(FrameHeader);
  if (::ioctl(fd.get(), TUNSETVNETHDRSZ, &header_size) != 0) return system_error("cannot configure " + interface);
  return TapInterface{std::move(fd), mtu_of(interface)};
}

Tap::Tap(TapInterface interface, Reactor& reactor)
    : interface_(std::move(interface)), reactor_(reactor), buffer_(sizeof(FrameHeader) + kMaxFrame) {}

Tap::~Tap() {
  reactor_.forget(interface_.fd.get());
  reactor_.synchronize();
}

void Tap::attach(Receiver& receiver, std::mutex& lock) {
  receiver_ = &receiver;
  lock_ = &lock;
  reactor_.watch(interface_.fd.get(), EPOLLIN, [this](std::uint32_t) { on_ready(); });
}

void Tap::set_receive_offloads(const Offloads& offloads) {
  unsigned flags = 0;
  if (offloads.checksum) flags |= TUN_F_CSUM;
  if (offloads.tso4) flags |= TUN_F_TSO4;
  if (offloads.tso6) flags |= TUN_F_TSO6;
  if (offloads.ecn) flags |= TUN_F_TSO_ECN;
  ::ioctl(interface_.fd.get(), TUNSETOFFLOAD, flags);
}

void Tap::send(const FrameHeader& header, std::span<std::byte> frame) {
  FrameHeader copy = header;
  const std::array<iovec, 2> parts{iovec{&copy, sizeof copy}, iovec{frame.data(), frame.size()}};
  // A full interface drops, as Ethernet does.
  [[maybe_unused]] const ssize_t sent = ::writev(interface_.fd.get(), parts.data(), parts.size());
}

bool Tap::deliver() {
  FrameHeader header;
  std::memcpy(&header, buffer_.data(), sizeof header);
  const std::span<const std::byte> frame = std::span(buffer_).first(waiting_).subspan(sizeof header);
  if (!receiver_->receive(header, frame)) return false;
  waiting_ = 0;
  return true;
}

void Tap::resume_receiving() {
  if (waiting_ != 0 && deliver()) reactor_.set_events(interface_.fd.get(), EPOLLIN);
}

void Tap::on_ready() {
  const std::lock_guard guard(*lock_);
  for (int i = 0; i < kBurst && waiting_ == 0; ++i) {
    const ssize_t got = ::read(interface_.fd.get(), buffer_.data(), buffer_.size());
    if (got < static_cast<ssize_t>(sizeof(FrameHeader))) break;
    waiting_ = static_cast<std::size_t>(got);
    if (!deliver()) reactor_.set_events(interface_.fd.get(), 0);
  }
  receiver_->received_all();
}

}  // namespace doppel::net
