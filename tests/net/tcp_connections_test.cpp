#include "net/tcp_connections.h"

#include <gtest/gtest.h>

#include <array>
#include <span>
#include <utility>

#include "state/snapshot_io.h"

namespace doppel::net {
namespace {

TcpConnections some() {
  return {{2, 0, 0, 0, 0, 9},
          {{{10, 0, 2, 15}, 40000, {10, 0, 2, 2}, 80}, {{10, 0, 2, 15}, 22, {192, 0, 2, 1}, 50000}}};
}

std::vector<std::byte> saved(TcpConnections& connections) {
  return state::save([&](state::Visitor& v) { connections.describe(v); });
}

TEST(TcpConnections, AreSavedAndLoaded) {
  TcpConnections from = some();
  TcpConnections to{{}, {{{1, 2, 3, 4}, 1, {}, 2}}};
  ASSERT_TRUE(state::load(saved(from), [&](state::Visitor& v) { to.describe(v); }));
  EXPECT_EQ(to.card, from.card);
  EXPECT_EQ(to.open, from.open);
}

TEST(TcpConnections, AListOfAnotherLengthIsRefused) {
  struct Damaged {
    std::size_t bytes;
    void describe(state::Visitor& v) const {
      std::array<std::uint8_t, 6> card{};
      v.field(1, "card", card);
      std::vector<std::byte> list(bytes);
      v.field(2, "open", list);
    }
  };
  for (const auto& [bytes, good] : {std::pair{24UL, true}, {25UL, false}, {TcpConnections::kMost * 12 + 12, false}}) {
    const Damaged damaged{bytes};
    TcpConnections to;
    const auto loaded = state::load(state::save([&](state::Visitor& v) { damaged.describe(v); }),
                                    [&](state::Visitor& v) { to.describe(v); });
    EXPECT_EQ(loaded.ok(), good) << bytes;
  }
}

/// The sum of big-endian words with its carries, 0xFFFF where the checksum among them is right (RFC 1071).
std::uint32_t sum(std::span<const std::byte> bytes, std::uint32_t start = 0) {
  std::uint32_t total = start;
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    total += std::to_integer<std::uint32_t>(bytes[i]) << 8 | std::to_integer<std::uint32_t>(bytes[i + 1]);
  }
  while (total >> 16 != 0) total = (total & 0xFFFF) + (total >> 16);
  return total;
}

TEST(TcpConnections, AQuestionIsAnEmptySegmentOfTheConnection) {
  const TcpConnections connections = some();
  const auto both = questions(connections.open[0], connections.card);
  for (const std::vector<std::byte>& frame : both) {
    ASSERT_EQ(frame.size(), 54U);
    const auto byte_at = [&](std::size_t i) { return std::to_integer<unsigned>(frame[i]); };
    EXPECT_EQ(byte_at(5), 9U) << "to the guest's card";
    EXPECT_EQ(byte_at(17), 40U) << "IP's length";
    EXPECT_EQ(byte_at(29), 2U) << "from the peer";
    EXPECT_EQ(byte_at(33), 15U) << "to the guest";
    EXPECT_EQ(byte_at(34) << 8 | byte_at(35), 80U);
    EXPECT_EQ(byte_at(36) << 8 | byte_at(37), 40000U);
    EXPECT_EQ(byte_at(47), 0x10U) << "ACK and nothing else";
    EXPECT_EQ(sum(std::span(frame).subspan(14, 20)), 0xFFFFU);
    constexpr std::uint32_t kTcp = 6, kTcpBytes = 20;
    EXPECT_EQ(sum(std::span(frame).subspan(26), kTcp + kTcpBytes), 0xFFFFU) << "addresses, segment, rest of the header";
  }
  EXPECT_EQ(both[0][38] ^ both[1][38], std::byte{0x80}) << "no window holds both";
}

TEST(TcpConnections, ResetsAndNewOnesEndThem) {
  // From the peer's side, so that the guest is who sends it.
  const TcpConnection connection{{10, 0, 2, 15}, 40000, {10, 0, 2, 2}, 80};
  std::vector<std::byte> frame = questions({connection.peer, 80, connection.guest, 40000}, {})[0];
  EXPECT_FALSE(ended_by(frame)) << "ACK";
  for (const std::uint8_t flags : {0x04, 0x14, 0x02}) {
    frame[47] = std::byte{flags};
    EXPECT_EQ(ended_by(frame), connection) << int{flags};
  }
  for (const auto& [at, value] : {std::pair<std::size_t, std::uint8_t>{12, 0x86}, {23, 17}, {21, 1}, {14, 0x44}}) {
    std::vector<std::byte> other = frame;
    other[at] = std::byte{value};
    EXPECT_FALSE(ended_by(other)) << at;
  }
  for (std::size_t size = 0; size < frame.size(); ++size) EXPECT_FALSE(ended_by(std::span(frame).first(size))) << size;
}

}  // namespace
}  // namespace doppel::net
