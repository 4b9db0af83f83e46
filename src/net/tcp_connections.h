#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "state/visitor.h"

namespace doppel::net {

/// One of a guest's, as the guest sees it.
struct TcpConnection {
  using Address = std::array<std::uint8_t, 4>;
  Address guest{};
  std::uint16_t guest_port = 0;
  Address peer{};
  std::uint16_t peer_port = 0;

  bool operator==(const TcpConnection&) const = default;
};

/// What a guest has open through a network that ends its connections (UserNetwork), so that it can learn of their end
/// when it goes on without that network.
struct TcpConnections {
  static constexpr std::size_t kMost = 1024;

  std::array<std::uint8_t, 6> card{};  ///< the guest's Ethernet address
  std::vector<TcpConnection> open;     ///< no more than kMost

  void describe(state::Visitor& v);
};

/// Two Ethernet frames for the guest, after which it says which byte it waits for, whatever that is: segments that are
/// empty and, one of them at least, outside its window (RFC 9293, 3.10.7.4). To that, a network that knows no such
/// connection answers with a reset that the guest believes.
std::array<std::vector<std::byte>, 2> questions(const TcpConnection& connection,
                                                const std::array<std::uint8_t, 6>& card);

/// The connection that the guest does not have, or no longer, since this frame of its resets it or begins it anew.
std::optional<TcpConnection> ended_by(std::span<const std::byte> frame);

/// A frame by which the guest would say where its end of the connection is (a gratuitous ARP, RFC 5227, 3).
std::vector<std::byte> announcement(const TcpConnection& connection, const std::array<std::uint8_t, 6>& card);

}  // namespace doppel::net
