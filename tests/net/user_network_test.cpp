#include "net/user_network.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <fstream>
#include <thread>

namespace doppel::net {
namespace {

TEST(PublishedPort, IsWrittenAsHostAndGuest) {
  const auto plain = PublishedPort::parse("8080:80");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->host_port, 8080);
  EXPECT_EQ(plain->guest_port, 80);
  EXPECT_EQ(plain->host_address, "127.0.0.1");
  EXPECT_FALSE(plain->udp);
  const auto full = PublishedPort::parse("0.0.0.0:53:5353/udp");
  ASSERT_TRUE(full);
  EXPECT_EQ(full->host_address, "0.0.0.0");
  EXPECT_TRUE(full->udp);
}

TEST(PublishedPort, NonsenseIsRefused) {
  for (const char* text : {"", "80", ":", "80:", ":80", "0:80", "80:65536", "x:80", "host:80:80", "80:80/sctp"}) {
    EXPECT_FALSE(PublishedPort::parse(text)) << text;
  }
}

class Wire : public Receiver {
 public:
  bool receive(const FrameHeader&, std::span<const std::byte> frame) override {
    if (!room) return false;
    frames.emplace_back(frame.begin(), frame.end());
    return true;
  }
  void received_all() override { received.notify_all(); }

  std::condition_variable received;
  bool room = true;
  std::vector<std::vector<std::byte>> frames;
};

/// Who has 10.0.2.2? asks 10.0.2.15.
std::vector<std::byte> arp_request() {
  const std::vector<int> bytes{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2, 0,  0, 0, 0,  1, 8, 6, 0, 1, 8, 0,  6, 4, 0,
                               1,    2,    0,    0,    0,    0,    1, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2};
  std::vector<std::byte> frame(60);
  std::transform(bytes.begin(), bytes.end(), frame.begin(), [](int byte) { return static_cast<std::byte>(byte); });
  return frame;
}

class UserNetworkTest : public testing::Test {
 protected:
  std::unique_ptr<Reactor> reactor = std::move(Reactor::create()).value();
  std::mutex lock;
  Wire wire;
};

TEST_F(UserNetworkTest, AnswersForTheGatewayInTheSendersThread) {
  const auto network = std::move(UserNetwork::create({}, *reactor)).value();
  network->attach(wire, lock);
  const std::lock_guard guard(lock);
  auto frame = arp_request();
  network->send({}, frame);
  network->sent_all();
  ASSERT_EQ(wire.frames.size(), 1u);
  EXPECT_EQ(wire.frames[0][21], std::byte{2}) << "an ARP reply";
}

TEST_F(UserNetworkTest, KeepsFramesUntilThereIsRoom) {
  const auto network = std::move(UserNetwork::create({}, *reactor)).value();
  network->attach(wire, lock);
  const std::lock_guard guard(lock);
  wire.room = false;
  auto frame = arp_request();
  network->send({}, frame);
  EXPECT_TRUE(wire.frames.empty());
  wire.room = true;
  network->resume_receiving();
  EXPECT_EQ(wire.frames.size(), 1u);
}

/// A frame of the guest's: a segment without options, from port 40000 to port 80 of the gateway.
std::vector<std::byte> answer_of_guest() {
  const TcpConnection backwards{{10, 0, 2, 2}, 80, {10, 0, 2, 15}, 40000};
  return questions(backwards, {0x52, 0x55, 10, 0, 2, 2})[0];
}

TEST_F(UserNetworkTest, ConnectionsThatWereCutAreAskedForOnceTheGuestRunsAndReset) {
  const auto network = std::move(UserNetwork::create({}, *reactor)).value();
  network->attach(wire, lock);
  const std::lock_guard guard(lock);
  const TcpConnections cut{{2, 0, 0, 0, 0, 1}, {{{10, 0, 2, 15}, 40000, {10, 0, 2, 2}, 80}}};
  network->cut(cut);
  EXPECT_TRUE(wire.frames.empty()) << "it does not run yet";
  EXPECT_EQ(network->connections().open, cut.open) << "saved again, it has not learned of it yet";
  network->resume_receiving();
  ASSERT_EQ(wire.frames.size(), 2U);
  EXPECT_EQ(wire.frames[0], questions(cut.open[0], cut.card)[0]);
  EXPECT_EQ(network->connections().open, cut.open) << "nor has it answered";
  auto answer = answer_of_guest();
  network->send({}, answer);
  network->sent_all();
  ASSERT_EQ(wire.frames.size(), 3U) << "without a look-up of the guest's address first";
  constexpr std::byte kReset{0x04};
  EXPECT_EQ(wire.frames[2][47] & kReset, kReset);
  network->resume_receiving();
  EXPECT_EQ(wire.frames.size(), 3U) << "it is not asked again so soon";
}

/// Once in seventy restores under load a guest kept a connection for ever.
TEST_F(UserNetworkTest, ConnectionsThatWereCutAreAskedForUntilTheGuestHasNone) {
  const auto network = std::move(UserNetwork::create({}, *reactor)).value();
  network->attach(wire, lock);
  std::unique_lock guard(lock);
  const TcpConnections cut{{2, 0, 0, 0, 0, 1}, {{{10, 0, 2, 15}, 40000, {10, 0, 2, 2}, 80}}};
  network->cut(cut);
  network->resume_receiving();
  ASSERT_EQ(wire.frames.size(), 2U);
  constexpr std::size_t kAskedTwice = 4;
  wire.received.wait(guard, [&] { return wire.frames.size() == kAskedTwice; });
  EXPECT_EQ(wire.frames[2], wire.frames[0]);
  EXPECT_EQ(network->connections().open, cut.open);
  auto answer = answer_of_guest();
  answer[47] = std::byte{0x04};
  network->send({}, answer);
  network->sent_all();
  EXPECT_TRUE(network->connections().open.empty()) << "the guest's reset says that it does not have it";
}

TEST_F(UserNetworkTest, APortThatIsTakenIsAnError) {
  const UniqueFd taken(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(taken.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(taken.get(), 1), 0);
  socklen_t size = sizeof address;
  ::getsockname(taken.get(), reinterpret_cast<sockaddr*>(&address), &size);
  UserNetworkConfig config;
  config.published.push_back({.host_port = ntohs(address.sin_port), .guest_port = 80});
  const auto network = UserNetwork::create(config, *reactor);
  ASSERT_FALSE(network);
  EXPECT_NE(network.error().message.find(std::to_string(ntohs(address.sin_port))), std::string::npos);
}

/// "Permission denied" says nothing of what to do.
TEST_F(UserNetworkTest, APortThatTakesAPrivilegeIsAnErrorWithAWayOut) {
  constexpr std::uint16_t kPort = 81;
  int first_free = 1024;
  std::ifstream("/proc/sys/net/ipv4/ip_unprivileged_port_start") >> first_free;
  if (first_free <= kPort) GTEST_SKIP() << "this host lets everybody have it";
  UserNetworkConfig config;
  config.published.push_back({.host_port = kPort, .guest_port = 80});
  std::string message;
  // Privileges are a thread's own.
  std::thread([&] {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> none{};
    if (::syscall(SYS_capset, &header, none.data()) != 0) return;
    const auto network = UserNetwork::create(config, *reactor);
    if (!network) message = network.error().message;
  }).join();
  EXPECT_NE(message.find("publish=8081:80"), std::string::npos) << message;
}

/// A UDP socket on a port of the loopback interface.
UniqueFd udp_socket(sockaddr_in& address) {
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const timeval limit{60, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  return fd;
}

TEST_F(UserNetworkTest, DatagramsToAPublishedPortReachTheGuestAndItsAnswersComeBack) {
  constexpr std::size_t kIp = 14, kUdp = kIp + 20, kPayload = kUdp + 8;
  sockaddr_in published{}, own{};
  UserNetworkConfig config;
  udp_socket(published);  // a port that is free again
  config.published.push_back({.udp = true, .host_port = ntohs(published.sin_port), .guest_port = 53});
  const auto network = std::move(UserNetwork::create(config, *reactor)).value();
  network->attach(wire, lock);
  const UniqueFd socket = udp_socket(own);
  std::array<char, 64> answer{};
  {
    std::unique_lock guard(lock);
    auto frame = arp_request();  // by which the guest's address is known
    network->send({}, frame);
    network->sent_all();
    wire.frames.clear();
    ASSERT_EQ(::sendto(socket.get(), "asked", 5, 0, reinterpret_cast<sockaddr*>(&published), sizeof published), 5);
    ASSERT_TRUE(wire.received.wait_for(guard, std::chrono::seconds(60), [this] { return !wire.frames.empty(); }));
    std::vector<std::byte> datagram = wire.frames.front();
    ASSERT_EQ(datagram.size(), kPayload + 5);
    EXPECT_EQ(datagram[kIp + 9], std::byte{17});
    EXPECT_EQ(datagram[kUdp + 3], std::byte{53}) << "the guest's port";
    EXPECT_EQ(std::memcmp(&datagram[kPayload], "asked", 5), 0);
    // Turned round, the same bytes have the same checksums.
    std::swap_ranges(datagram.begin(), datagram.begin() + 6, datagram.begin() + 6);
    std::swap_ranges(datagram.begin() + kIp + 12, datagram.begin() + kIp + 16, datagram.begin() + kIp + 16);
    std::swap_ranges(datagram.begin() + kUdp, datagram.begin() + kUdp + 2, datagram.begin() + kUdp + 2);
    network->send({}, datagram);
    network->sent_all();
  }
  sockaddr_in from{};
  socklen_t size = sizeof from;
  EXPECT_EQ(::recvfrom(socket.get(), answer.data(), answer.size(), 0, reinterpret_cast<sockaddr*>(&from), &size), 5);
  EXPECT_EQ(std::string_view(answer.data(), 5), "asked");
  EXPECT_EQ(from.sin_port, published.sin_port);
}

}  // namespace
}  // namespace doppel::net
