// What becomes of the connections of a machine that goes on in another process.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "guest/snapshots_fixture.h"

namespace doppel::test {
namespace {

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

UniqueFd tcp_socket() {
  return UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

std::uint16_t bind_somewhere(const UniqueFd& socket) {
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  return ntohs(address.sin_port);
}

class SnapshotsWithConnections : public Snapshots {
 protected:
  /// Waits until the guest's file has these contents.
  std::string wait_for(const std::string& file, const std::string& contents) {
    return guest("web", "for i in $(seq 600); do [ \"$(cat " + file + " 2>/dev/null)\" = '" + contents +
                            "' ] && break; usleep 50000; done; cat " + file);
  }
  /// The error by which a connection ends; 0: in order.
  static int end_of(const UniqueFd& connection) {
    constexpr int kPatienceMs = 60'000;
    std::array<char, 64> bytes{};
    for (;;) {
      pollfd readable{connection.get(), POLLIN, 0};
      if (::poll(&readable, 1, kPatienceMs) != 1) return ETIMEDOUT;
      const ssize_t got = ::recv(connection.get(), bytes.data(), bytes.size(), 0);
      if (got <= 0) return got < 0 ? errno : 0;
    }
  }
};

TEST_F(SnapshotsWithConnections, BothSidesLearnThatAConnectionIsGoneWithoutSayingAnything) {
  const UniqueFd listener = tcp_socket();
  const std::uint16_t port = bind_somewhere(listener);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  std::uint16_t published = 0;
  {
    const UniqueFd reserved = tcp_socket();
    published = bind_somewhere(reserved);
  }
  start("web", {"--memory", "128M", "--net", "user,publish=" + std::to_string(published) + ":80"});
  guest("web", "mkfifo /tmp/silence; ifconfig eth0 | grep -q 10.0.2.15 || udhcpc -i eth0 -q >/dev/null 2>&1");
  guest("web", "(nc 10.0.2.2 " + std::to_string(port) +
                   " <>/tmp/silence >/tmp/out; echo ended >/tmp/out.ended) >/dev/null 2>&1 &");
  const UniqueFd outgoing(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_EQ(::send(outgoing.get(), "hello", 5, MSG_NOSIGNAL), 5);
  ASSERT_EQ(wait_for("/tmp/out", "hello"), "hello");
  guest("web",
        "(nc -l -p 80 <>/tmp/silence >/tmp/in; echo ended >/tmp/in.ended) >/dev/null 2>&1 &\n"
        "until netstat -lnt | grep -q :80; do usleep 20000; done");
  const UniqueFd incoming = tcp_socket();
  const sockaddr_in address = loopback(published);
  ASSERT_EQ(::connect(incoming.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::send(incoming.get(), "hello", 5, MSG_NOSIGNAL), 5);
  ASSERT_EQ(wait_for("/tmp/in", "hello"), "hello");

  ok({"snapshot", "create", "web", "ready"});
  EXPECT_EQ(guest("web", "ls /tmp/*.ended 2>/dev/null; true"), "") << "a snapshot cuts nothing";
  ok({"snapshot", "restore", "web", "ready"});
  EXPECT_EQ(end_of(outgoing), ECONNRESET) << "an orderly end would say that the guest has said all";
  EXPECT_EQ(end_of(incoming), ECONNRESET);
  EXPECT_EQ(wait_for("/tmp/out.ended", "ended"), "ended\n");
  EXPECT_EQ(wait_for("/tmp/in.ended", "ended"), "ended\n");
}

}  // namespace
}  // namespace doppel::test
