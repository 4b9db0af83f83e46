#include "devices/virtio/vsock.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <thread>

#include "base/temporary_directory.h"
#include "devices/virtio/driver.h"
#include "state/contract.h"
#include "state/snapshot_io.h"

namespace doppel::devices::virtio {
namespace {

using test::as_vector;
using test::VirtioDriver;

constexpr unsigned kReceive = 0, kTransmit = 1, kEvent = 2;

class VirtioVsock : public testing::Test {
 protected:
  VirtioVsock() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    EXPECT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener.get(), 8), 0);
    Vsock::Config config{.name = "vsock", .listener = std::move(listener), .connect = [this](std::uint32_t port) {
                           asked_port = port;
                           std::array<int, 2> ends{};
                           EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
                           host_end = UniqueFd(ends[1]);
                           return UniqueFd(ends[0]);
                         }};
    device = std::make_unique<Vsock>(std::move(config), *reactor, *memory);
    driver = std::make_unique<VirtioDriver>(*device, *memory);
    driver->start(0, 3);
  }

  UniqueFd connect() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }

  void send(VsockOperation operation, std::uint32_t host_port, std::string_view data = {}, std::uint32_t flags = 0) {
    VsockHeader header;
    header.source_cid = 3;
    header.destination_cid = 2;
    header.source_port = 1024;
    header.destination_port = host_port;
    header.length = static_cast<std::uint32_t>(data.size());
    header.type = kVsockStream;
    header.operation = static_cast<std::uint16_t>(operation);
    header.flags = flags;
    header.buffer_allocation = 65536;
    std::vector<std::vector<std::byte>> out{as_vector(header)};
    const auto bytes = std::as_bytes(std::span{data});
    if (!data.empty()) out.emplace_back(bytes.begin(), bytes.end());
    driver->submit(kTransmit, out, {});
    driver->notify(kTransmit);
  }

  /// Puts a buffer up and waits for the packet that comes in it.
  VsockHeader receive(std::string* data = nullptr) {
    const auto place = driver->submit(kReceive, {}, {512});
    driver->notify(kReceive);
    std::optional<VirtioDriver::Used> used;
    while (!(used = driver->take_used(kReceive))) std::this_thread::yield();
    VsockHeader header;
    memory->read_value(place[0], header);
    EXPECT_EQ(used->length, sizeof header + header.length);
    if (data != nullptr) *data = driver->text(place[0] + sizeof header, header.length);
    return header;
  }
  /// A host program's connection to the guest's port 1024, and the port that it has at the host's side.
  std::pair<UniqueFd, std::uint32_t> connect_to_guest() {
    UniqueFd client = connect();
    EXPECT_TRUE(write_all(client.get(), std::as_bytes(std::span("CONNECT 1024\n", 13))));
    const VsockHeader request = receive();
    EXPECT_EQ(operation(request), VsockOperation::Request);
    send(VsockOperation::Response, request.source_port);
    const std::string answer = "OK " + std::to_string(request.source_port) + "\n";
    EXPECT_EQ(read(client, answer.size()), answer);
    return {std::move(client), request.source_port};
  }
  /// Saves the paused device and loads that again.
  void save_and_load() {
    const auto describe = [this](state::Visitor& v) { device->describe(v); };
    EXPECT_TRUE(state::load(state::save(describe), describe));
  }
  static VsockOperation operation(const VsockHeader& header) { return static_cast<VsockOperation>(header.operation); }

  static std::string read(const UniqueFd& fd, std::size_t size) {
    std::string text(size, '\0');
    const ssize_t got = ::recv(fd.get(), text.data(), size, MSG_WAITALL);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
  }

  test::TemporaryDirectory directory_;
  const std::string path_ = directory_.path() + "/v.sock";
  std::unique_ptr<memory::GuestMemory> memory = VirtioDriver::make_memory();
  std::unique_ptr<net::Reactor> reactor = std::move(net::Reactor::create()).value();
  std::uint32_t asked_port = 0;
  UniqueFd host_end;
  std::unique_ptr<Vsock> device;
  std::unique_ptr<VirtioDriver> driver;
};

TEST_F(VirtioVsock, AHostsConnectionReachesTheGuestsPort) {
  const UniqueFd client = connect();
  ASSERT_TRUE(write_all(client.get(), std::as_bytes(std::span("CONNECT 1024\n", 13))));
  const VsockHeader request = receive();
  EXPECT_EQ(operation(request), VsockOperation::Request);
  EXPECT_EQ(request.destination_port, 1024u);
  EXPECT_EQ(request.source_cid, 2u);
  send(VsockOperation::Response, request.source_port);
  const std::string answer = "OK " + std::to_string(request.source_port) + "\n";
  EXPECT_EQ(read(client, answer.size()), answer);

  send(VsockOperation::ReadWrite, request.source_port, "from the guest");
  EXPECT_EQ(read(client, 14), "from the guest");
  ASSERT_TRUE(write_all(client.get(), std::as_bytes(std::span("from the host", 13))));
  std::string data;
  EXPECT_EQ(operation(receive(&data)), VsockOperation::ReadWrite);
  EXPECT_EQ(data, "from the host");

  ::shutdown(client.get(), SHUT_WR);
  const VsockHeader shutdown = receive();
  EXPECT_EQ(operation(shutdown), VsockOperation::Shutdown);
  EXPECT_EQ(shutdown.flags, kShutdownSend);
  send(VsockOperation::Shutdown, request.source_port, {}, kShutdownSend | kShutdownReceive);
  EXPECT_EQ(operation(receive()), VsockOperation::Reset);
  EXPECT_EQ(read(client, 1), "") << "closed";
}

TEST_F(VirtioVsock, AGuestWhereNobodyListensEndsTheClient) {
  const UniqueFd client = connect();
  ASSERT_TRUE(write_all(client.get(), std::as_bytes(std::span("CONNECT 9\n", 10))));
  const VsockHeader request = receive();
  driver->take_used(kTransmit);
  VsockHeader reset;
  reset.source_cid = 3;
  reset.destination_cid = 2;
  reset.source_port = 9;
  reset.destination_port = request.source_port;
  reset.type = kVsockStream;
  reset.operation = static_cast<std::uint16_t>(VsockOperation::Reset);
  driver->submit(kTransmit, {as_vector(reset)}, {});
  driver->notify(kTransmit);
  EXPECT_EQ(read(client, 1), "");
}

TEST_F(VirtioVsock, NonsenseInsteadOfAPortEndsTheClient) {
  const UniqueFd client = connect();
  ASSERT_TRUE(write_all(client.get(), std::as_bytes(std::span("GET / HTTP/1.1\n", 15))));
  EXPECT_EQ(read(client, 1), "");
}

TEST_F(VirtioVsock, TheGuestsConnectionGoesWhereTheHostSays) {
  send(VsockOperation::Request, 5000);
  EXPECT_EQ(asked_port, 5000u);
  EXPECT_EQ(operation(receive()), VsockOperation::Response);
  send(VsockOperation::ReadWrite, 5000, "hello");
  EXPECT_EQ(read(host_end, 5), "hello");
  host_end.reset();
  const VsockHeader end = receive();
  EXPECT_EQ(operation(end), VsockOperation::Shutdown);
  EXPECT_EQ(end.flags, kShutdownSend | kShutdownReceive);
}

TEST_F(VirtioVsock, TheHostMaySpeakFirst) {
  send(VsockOperation::Request, 5000);
  EXPECT_EQ(operation(receive()), VsockOperation::Response);
  ASSERT_TRUE(write_all(host_end.get(), std::as_bytes(std::span("hello", 5))));
  std::string data;
  EXPECT_EQ(operation(receive(&data)), VsockOperation::ReadWrite);
  EXPECT_EQ(data, "hello");
}

TEST_F(VirtioVsock, DataBeyondTheCreditEndsTheConnection) {
  send(VsockOperation::Request, 5000);
  EXPECT_EQ(operation(receive()), VsockOperation::Response);
  // Nobody reads the host's end: its socket and our buffer fill up.
  const std::string much(100'000, 'x');
  VsockHeader header;
  for (int i = 0; i < 20; ++i) send(VsockOperation::ReadWrite, 5000, much);
  do header = receive();
  while (operation(header) == VsockOperation::CreditUpdate);
  EXPECT_EQ(operation(header), VsockOperation::Reset);
}

TEST_F(VirtioVsock, APacketShorterThanItSaysFailsTheDevice) {
  VsockHeader header;
  header.length = 100;
  driver->submit(kTransmit, {as_vector(header)}, {});
  driver->notify(kTransmit);
  EXPECT_TRUE(driver->failed());
}

TEST_F(VirtioVsock, Contract) {
  Vsock fresh({.name = "vsock", .listener = UniqueFd(), .connect = {}}, *reactor, *memory);
  std::optional<VirtioDriver> user;
  test::expect_contract(fresh, [&] {
    user.emplace(fresh, *memory);
    user->start(0, 3);
  });
  test::expect_schema("virtio_vsock", fresh);
}

TEST_F(VirtioVsock, ConnectionsAfterALoadWaitUntilTheGuestHasForgottenThoseBefore) {
  driver->submit(kEvent, {}, {4});
  const auto describe = [this](state::Visitor& v) { device->describe(v); };
  device->pause();
  ASSERT_TRUE(state::load(state::save(describe), describe));
  device->resume();
  ASSERT_TRUE(driver->take_used(kEvent)) << "the event";

  driver->submit(kReceive, {}, {512});
  driver->notify(kReceive);
  const UniqueFd client = connect();
  ASSERT_TRUE(write_all(client.get(), std::as_bytes(std::span("CONNECT 1024\n", 13))));
  for (int i = 0; i < 100; ++i) reactor->synchronize();
  EXPECT_FALSE(driver->take_used(kReceive)) << "the guest would reset it with the others";

  driver->submit(kEvent, {}, {4});
  driver->notify(kEvent);
  while (!driver->take_used(kReceive)) std::this_thread::yield();
}

TEST_F(VirtioVsock, WhatTheHostSaysDuringAPauseComesAfterwards) {
  const auto [client, port] = connect_to_guest();
  const auto place = driver->submit(kReceive, {}, {512});
  device->pause();
  driver->notify(kReceive);
  ASSERT_TRUE(write_all(client.get(), std::as_bytes(std::span("hello", 5))));
  for (int i = 0; i < 100; ++i) reactor->synchronize();
  EXPECT_FALSE(driver->take_used(kReceive)) << "the guest's memory has changed during a pause";
  device->resume();
  while (!driver->take_used(kReceive)) std::this_thread::yield();
  EXPECT_EQ(driver->text(place[0] + sizeof(VsockHeader), 5), "hello");
  // And in both directions from then on.
  send(VsockOperation::ReadWrite, port, "hello yourself");
  EXPECT_EQ(read(client, 14), "hello yourself");
}

TEST_F(VirtioVsock, WhatTheGuestWasSendingAtASaveIsTakenAfterTheLoad) {
  const auto [client, port] = connect_to_guest();
  while (driver->take_used(kTransmit)) {
  }
  device->pause();
  send(VsockOperation::ReadWrite, port, "in flight");
  save_and_load();
  device->resume();
  while (!driver->take_used(kTransmit)) std::this_thread::yield();
  // The connection is not there any more, which the guest is told.
  VsockHeader header = receive();
  EXPECT_EQ(operation(header), VsockOperation::Reset);
  EXPECT_EQ(header.source_port, port);
}

TEST_F(VirtioVsock, ALoadForgetsNoPortThatTheGuestMayKnow) {
  const std::uint32_t before = connect_to_guest().second;
  driver->submit(kEvent, {}, {4});
  device->pause();
  save_and_load();
  device->resume();
  driver->submit(kEvent, {}, {4});
  driver->notify(kEvent);
  EXPECT_GT(connect_to_guest().second, before);
}

}  // namespace
}  // namespace doppel::devices::virtio
