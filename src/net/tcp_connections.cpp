#include "net/tcp_connections.h"

#include <netinet/in.h>

#include <algorithm>

#include "base/bits.h"
#include "net/backend.h"
#include "net/checksum.h"

namespace doppel::net {
namespace {

constexpr std::size_t kConnectionBytes = 12;
constexpr std::size_t kEthernetHeader = 14, kIpHeader = 20, kTcpHeader = 20;
constexpr std::uint16_t kIpv4 = 0x0800;

template <std::size_t N>
std::byte* put(std::byte* at, const std::array<std::uint8_t, N>& bytes) {
  return std::ranges::transform(bytes, at, [](std::uint8_t byte) { return std::byte{byte}; }).out;
}
TcpConnection::Address get_address(const std::byte* at) {
  TcpConnection::Address address{};
  std::transform(at, at + address.size(), address.begin(), std::to_integer<std::uint8_t>);
  return address;
}

}  // namespace

void TcpConnections::describe(state::Visitor& v) {
  v.field(1, "card", card);
  std::vector<std::byte> list(open.size() * kConnectionBytes);
  std::byte* to = list.data();
  for (const TcpConnection& each : open) {
    to = put(put(to, each.guest), each.peer);
    store_le(to, each.guest_port);
    store_le(to + 2, each.peer_port);
    to += 4;
  }
  v.field(2, "open", list);
  if (!v.is_loading()) return;
  const bool fits = list.size() % kConnectionBytes == 0 && list.size() / kConnectionBytes <= kMost;
  v.require(fits, "a list of connections has a length that cannot be");
  open.clear();
  if (!fits) return;
  for (const std::byte* from = list.data(); from != list.data() + list.size(); from += kConnectionBytes) {
    TcpConnection connection;
    const auto byte_at = [from](std::size_t i) { return std::to_integer<std::uint8_t>(from[i]); };
    for (std::size_t i = 0; i < connection.guest.size(); ++i) {
      connection.guest[i] = byte_at(i);
      connection.peer[i] = byte_at(i + connection.guest.size());
    }
    connection.guest_port = load_le<std::uint16_t>(from + 8);
    connection.peer_port = load_le<std::uint16_t>(from + 10);
    open.push_back(connection);
  }
}

std::array<std::vector<std::byte>, 2> questions(const TcpConnection& connection,
                                                const std::array<std::uint8_t, 6>& card) {
  // libslirp's own, from its address 10.0.2.2.
  constexpr std::array<std::uint8_t, 6> kGateway{0x52, 0x55, 10, 0, 2, 2};
  constexpr std::array<std::uint8_t, 12> kIpStart{0x45,        0, 0, kIpHeader + kTcpHeader, 0, 0, 0, 0, 64,
                                                  IPPROTO_TCP, 0, 0};
  std::vector<std::byte> frame(kEthernetHeader + kIpHeader + kTcpHeader);
  put(put(frame.data(), card), kGateway);
  store_be(&frame[12], kIpv4);
  std::byte* const ip = &frame[kEthernetHeader];
  put(put(put(ip, kIpStart), connection.peer), connection.guest);
  store_le(ip + 10, static_cast<std::uint16_t>(~ones_sum({ip, kIpHeader})));
  std::byte* const tcp = ip + kIpHeader;
  store_be(tcp, connection.peer_port);
  store_be(tcp + 2, connection.guest_port);
  constexpr std::byte kFiveWords{5 << 4}, kAck{0x10};
  tcp[12] = kFiveWords;
  tcp[13] = kAck;
  // The pseudo header's part of the sum; complete_checksum() does the rest.
  constexpr std::size_t kChecksum = 16;
  std::array<std::byte, 12> pseudo{};
  put(put(pseudo.data(), connection.peer), connection.guest);
  pseudo[9] = std::byte{IPPROTO_TCP};
  pseudo[11] = std::byte{kTcpHeader};
  store_le(tcp + kChecksum, ones_sum(pseudo));
  FrameHeader header;
  header.checksum_start = kEthernetHeader + kIpHeader;
  header.checksum_offset = kChecksum;
  // No window is so large as to hold both.
  std::array<std::vector<std::byte>, 2> both{frame, frame};
  both[1][kEthernetHeader + kIpHeader + 4] = std::byte{0x80};
  for (std::vector<std::byte>& each : both) complete_checksum(header, each);
  return both;
}

std::optional<TcpConnection> ended_by(std::span<const std::byte> frame) {
  if (frame.size() < kEthernetHeader + kIpHeader || load_be<std::uint16_t>(&frame[12]) != kIpv4) return std::nullopt;
  const std::byte* const ip = &frame[kEthernetHeader];
  const std::size_t ip_header = 4 * std::to_integer<std::size_t>(ip[0] & std::byte{0xF});
  constexpr std::uint32_t kFragmentOffset = 0x1FFF;
  if (ip_header < kIpHeader || ip[9] != std::byte{IPPROTO_TCP} ||
      (load_be<std::uint16_t>(ip + 6) & kFragmentOffset) != 0 ||
      frame.size() < kEthernetHeader + ip_header + kTcpHeader) {
    return std::nullopt;
  }
  const std::byte* const tcp = ip + ip_header;
  constexpr std::byte kSyn{0x02}, kReset{0x04};
  if ((tcp[13] & (kSyn | kReset)) == std::byte{}) return std::nullopt;
  return TcpConnection{get_address(ip + 12), load_be<std::uint16_t>(tcp), get_address(ip + 16),
                       load_be<std::uint16_t>(tcp + 2)};
}

std::vector<std::byte> announcement(const TcpConnection& connection, const std::array<std::uint8_t, 6>& card) {
  constexpr std::array<std::uint8_t, 6> kEverybody{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
  // Type; Ethernet and IPv4, the lengths of their addresses, request.
  constexpr std::array<std::uint8_t, 10> kRequest{8, 6, 0, 1, 8, 0, 6, 4, 0, 1};
  constexpr std::size_t kShortestFrame = 60;
  std::vector<std::byte> frame(kShortestFrame);
  std::byte* const from = put(put(put(frame.data(), kEverybody), card), kRequest);
  put(put(put(put(from, card), connection.guest), kEverybody), connection.guest);
  return frame;
}

}  // namespace doppel::net
