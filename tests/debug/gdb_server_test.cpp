#include "debug/gdb_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>

#include "base/fd.h"
#include "debug/fake_target.h"

namespace doppel::debug {
namespace {

using test::FakeTarget;
using ::testing::HasSubstr;

UniqueFd connect_to(std::uint16_t port) {
  UniqueFd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fd.reset();
  return fd;
}

void send_text(const UniqueFd& fd, std::string_view text) {
  ASSERT_EQ(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
}

/// Reads until `expected` has come, or the end of the stream.
std::string read_until(const UniqueFd& fd, std::string_view expected) {
  std::string text;
  char byte;
  while (text.find(expected) == std::string::npos && ::recv(fd.get(), &byte, 1, 0) == 1) text += byte;
  return text;
}

TEST(GdbServer, ServesADebuggerAndThenAnother) {
  FakeTarget target{1};
  auto server = GdbServer::listen(":0", target);
  ASSERT_TRUE(server) << server.error().message;
  for (int round = 0; round < 2; ++round) {
    const UniqueFd client = connect_to((*server)->port());
    ASSERT_TRUE(client.valid());
    send_text(client, "+$?#3f");
    EXPECT_THAT(read_until(client, "T02thread:1;#"), HasSubstr("T02thread:1;#"));
    send_text(client, "+$D#44");
    EXPECT_THAT(read_until(client, "$OK#9a"), HasSubstr("$OK#9a"));
  }
}

TEST(GdbServer, StopsOfTheMachineReachTheDebugger) {
  FakeTarget target{1};
  std::atomic<bool> resumed = false;
  target.on_resume = [&] {
    resumed = true;
    target.listener({Stop::Reason::Stepped, 0, 0});
  };
  auto server = GdbServer::listen("127.0.0.1:0", target);
  ASSERT_TRUE(server) << server.error().message;
  const UniqueFd client = connect_to((*server)->port());
  send_text(client, "+$vCont;s:1#23");
  EXPECT_THAT(read_until(client, "T05thread:1;#"), HasSubstr("T05thread:1;#"));
  EXPECT_TRUE(resumed);
}

TEST(GdbServer, TheEndOfTheMachineEndsTheConnection) {
  FakeTarget target{1};
  auto server = GdbServer::listen(":0", target);
  ASSERT_TRUE(server) << server.error().message;
  const UniqueFd client = connect_to((*server)->port());
  send_text(client, "+$vCont;c#a8");
  EXPECT_THAT(read_until(client, "+"), HasSubstr("+"));
  (*server)->machine_ended(7);
  EXPECT_THAT(read_until(client, "(end of stream)"), HasSubstr("$W07#"));
}

TEST(GdbServer, BadAddressesAreExplained) {
  FakeTarget target{1};
  for (const char* address : {"1234", "host:", ":99999", ":http", "no such host:1"}) {
    const auto server = GdbServer::listen(address, target);
    ASSERT_FALSE(server) << address;
    EXPECT_THAT(server.error().message, HasSubstr(address));
  }
}

TEST(GdbServer, APortInUseIsExplained) {
  FakeTarget target{1};
  auto first = GdbServer::listen(":0", target);
  ASSERT_TRUE(first);
  const auto second = GdbServer::listen(":" + std::to_string((*first)->port()), target);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr("choose another port"));
}

}  // namespace
}  // namespace doppel::debug
