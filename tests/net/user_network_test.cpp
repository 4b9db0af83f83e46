#include "net/user_network.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>

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
  void received_all() override {}

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

}  // namespace
}  // namespace doppel::net
