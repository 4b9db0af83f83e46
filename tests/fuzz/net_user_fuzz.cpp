#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstring>
#include <deque>

#include "base/bits.h"
#include "base/log.h"
#include "fuzz/virtio_fuzz.h"
#include "net/user_network.h"

namespace {

using namespace doppel;

/// A network of this process's own, with a listener on port 7 of its loopback interface, so that no frame reaches
/// anybody. False where the kernel gives none; the guest is then restricted.
bool leave_network() {
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) return false;
  static const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  ifreq loopback{};
  std::strcpy(loopback.ifr_name, "lo");
  loopback.ifr_flags = IFF_UP;
  if (::ioctl(listener.get(), SIOCSIFFLAGS, &loopback) != 0) return true;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(7);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) ::listen(listener.get(), 64);
  return true;
}

/// Before main: libFuzzer has a second thread, and such a process gets no user namespace.
const bool kAlone = leave_network();

class Wire : public net::Receiver {
 public:
  bool receive(const net::FrameHeader&, std::span<const std::byte> frame) override {
    if (frame.size() > net::kMaxFrame) std::abort();
    return room;
  }
  void received_all() override {}
  bool room = true;
};

/// The one's complement sum of big-endian words.
std::uint32_t sum_of(std::span<const std::byte> bytes, std::uint32_t sum) {
  for (std::size_t i = 0; i < bytes.size(); ++i)
    sum += std::to_integer<std::uint32_t>(bytes[i]) << (i % 2 == 0 ? 8 : 0);
  while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
  return sum;
}
void store_be16(std::byte* at, std::uint32_t value) {
  at[0] = static_cast<std::byte>(value >> 8);
  at[1] = static_cast<std::byte>(value);
}

constexpr std::size_t kEthernet = 14, kIp = 20;

/// Makes an IPv4 packet's length and checksums right, as nobody guesses them.
net::FrameHeader complete(std::span<std::byte> frame) {
  net::FrameHeader header;
  if (frame.size() < kEthernet + kIp) return header;
  std::byte* const ip = &frame[kEthernet];
  frame[12] = std::byte{8};
  frame[13] = std::byte{0};
  ip[0] = std::byte{0x45};
  store_be16(ip + 2, static_cast<std::uint32_t>(frame.size() - kEthernet));
  store_be16(ip + 10, 0);
  store_be16(ip + 10, ~sum_of({ip, kIp}, 0));
  const auto protocol = std::to_integer<unsigned>(ip[9]);
  const auto transport = frame.subspan(kEthernet + kIp);
  if (protocol == IPPROTO_ICMP && transport.size() >= 4) {
    store_be16(&transport[2], 0);
    store_be16(&transport[2], ~sum_of(transport, 0));
    return header;
  }
  const std::uint16_t field = protocol == IPPROTO_TCP ? 16 : 6;
  if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) || transport.size() < field + 2U) return header;
  if (protocol == IPPROTO_UDP) store_be16(&transport[4], static_cast<std::uint32_t>(transport.size()));
  store_be16(&transport[field], sum_of({ip + 12, 8}, protocol + static_cast<std::uint32_t>(transport.size())));
  header.flags = net::FrameHeader::kNeedsChecksum;
  header.checksum_start = kEthernet + kIp;
  header.checksum_offset = field;
  return header;
}

/// A frame from the input: as it is, or as IPv4 to the gateway with what is behind the addresses from the input.
std::vector<std::byte> make_frame(fuzz::Input& input, std::uint8_t how) {
  std::vector<std::byte> frame;
  const auto append = [&frame](std::span<const std::byte> bytes) {
    frame.insert(frame.end(), bytes.begin(), bytes.end());
  };
  if (how % 4 != 0) {
    const std::array<std::uint8_t, kEthernet + kIp> start{
        0x52, 0x55,
        10,   0,
        2,    2,
        2,    0,
        0,    0,
        0,    0,
        8,    0,
        0x45, 0,
        0,    0,
        0,    1,
        0,    0,
        64,   static_cast<std::uint8_t>(how % 4 == 1 ? 6 : how % 4 == 2 ? 17 : 1),
        0,    0,
        10,   0,
        2,    15,
        10,   0,
        2,    static_cast<std::uint8_t>(how / 4 % 4)};
    append(std::as_bytes(std::span{start}));
  }
  append(input.bytes(input.byte()));
  return frame;
}

}  // namespace

/// A guest's frames on the user-mode network: odd ones, packets of TCP, UDP and ICMP with the right checksums, and a
/// guest that has no room for the answers.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool quiet = log::configure(log::Level::Off, "").ok();
  static const auto reactor = std::move(net::Reactor::create()).value();
  if (!quiet) return 0;
  fuzz::Input input({data, size});
  Wire wire;
  std::mutex lock;
  auto network = net::UserNetwork::create({.published = {}, .restricted = !kAlone, .host_name = "fuzz"}, *reactor);
  if (!network) return 0;
  (*network)->attach(wire, lock);
  while (!input.empty()) {
    const std::lock_guard guard(lock);
    const std::uint8_t how = input.byte();
    if (how % 32 == 31) {
      wire.room = !wire.room;
      if (wire.room) (*network)->resume_receiving();
    } else if (how % 32 == 30) {
      (*network)->sent_all();
    } else {
      std::vector<std::byte> frame = make_frame(input, how);
      net::FrameHeader header;
      if (how % 4 != 0) header = complete(frame);
      if (how % 32 == 28) {
        header.flags = net::FrameHeader::kNeedsChecksum;
        header.checksum_start = input.word();
        header.checksum_offset = input.word();
      }
      (*network)->send(header, frame);
    }
  }
  return 0;
}
