#include "net/user_network.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <poll.h>
#include <slirp/libslirp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <sstream>
#include <string_view>

#include "base/log.h"
#include "base/system_error.h"
#include "net/checksum.h"

namespace doppel::net {
namespace {

/// TCP ends here, so a frame may be as large as IP allows: fewer of them, less work for the guest.
constexpr std::uint16_t kMtu = 16384;
constexpr std::size_t kEthernetHeader = 14;
constexpr std::size_t kMostWaiting = 256;
constexpr std::uint32_t kLongestWait = 60'000;

in_addr ipv4(const char* text) {
  in_addr address{};
  inet_pton(AF_INET, text, &address);
  return address;
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size() || port == 0) return std::nullopt;
  return port;
}

/// libslirp's own forwarder of name queries.
constexpr const char* kForwarder = "10.0.2.3";
constexpr const char* kGateway = "10.0.2.2";

/// The name server of the guest: one of the host's that the guest can reach itself, because libslirp's own forwarder
/// reads /etc/resolv.conf again and again, which a machine in its jail cannot. A local resolver's file of its upstreams
/// comes second.
in_addr name_server() {
  for (const char* path : {"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"}) {
    std::ifstream file(path);
    std::string word;
    while (file >> word) {
      in_addr address{};
      if (word != "nameserver" || !(file >> word) || inet_pton(AF_INET, word.c_str(), &address) != 1) continue;
      constexpr std::uint32_t kLoopbackNet = 127;
      if (ntohl(address.s_addr) >> 24 != kLoopbackNet) return address;
    }
  }
  return ipv4(kForwarder);
}

/// One that libslirp has of the guest's, with its socket on the host.
struct Translated {
  TcpConnection connection;
  int fd = -1;
  std::string state;
};

TcpConnection::Address bytes_of(const in_addr& address) {
  TcpConnection::Address bytes{};
  std::memcpy(bytes.data(), &address, bytes.size());
  return bytes;
}

/// A connection that came in through a published port: libslirp names its end on the host, and not who is at the other.
bool read_peer(int fd, TcpConnection& connection) {
  sockaddr_in peer{};
  socklen_t size = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0 || peer.sin_family != AF_INET) return false;
  constexpr std::uint8_t kLoopback = 127;
  connection.peer = bytes_of(peer.sin_addr);
  if (connection.peer[0] == kLoopback || connection.peer == TcpConnection::Address{}) {
    connection.peer = bytes_of(ipv4(kGateway));
  }
  connection.peer_port = ntohs(peer.sin_port);
  return true;
}

bool is_local_end(int fd, const in_addr& address, std::uint16_t port) {
  sockaddr_in local{};
  socklen_t size = sizeof local;
  return ::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &size) == 0 && local.sin_family == AF_INET &&
         local.sin_port == htons(port) && local.sin_addr.s_addr == address.s_addr;
}

/// From libslirp's report, for it has no other way to ask: "TCP[STATE] FD SOURCE PORT DESTINATION PORT …".
std::vector<Translated> translated_by(Slirp* slirp) {
  const std::unique_ptr<char, void (*)(void*)> report(slirp_connection_info(slirp), std::free);
  std::vector<Translated> all;
  std::istringstream lines(report.get());
  for (std::string line; std::getline(lines, line);) {
    std::array<char, 32> state{};
    std::array<char, 32> source{};
    std::array<char, 32> destination{};
    Translated each;
    std::uint16_t source_port = 0;
    std::uint16_t destination_port = 0;
    if (std::sscanf(line.c_str(), " TCP[%31[^]]] %d %31s %hu %31s %hu", state.data(), &each.fd, source.data(),
                    &source_port, destination.data(), &destination_port) != 6) {
      continue;
    }
    each.state = state.data();
    in_addr from{};
    in_addr to{};
    if (each.state == "HOST_FORWARD" || inet_pton(AF_INET, source.data(), &from) != 1 ||
        inet_pton(AF_INET, destination.data(), &to) != 1) {
      continue;
    }
    if (is_local_end(each.fd, from, source_port)) {
      each.connection = {bytes_of(to), destination_port, {}, 0};
      if (!read_peer(each.fd, each.connection)) continue;
    } else {
      each.connection = {bytes_of(from), source_port, bytes_of(to), destination_port};
    }
    all.push_back(std::move(each));
  }
  return all;
}

/// libslirp's event bits are poll(2)'s in another order.
struct EventBit {
  int slirp;
  short poll;
  std::uint32_t epoll;
};
constexpr EventBit kEventBits[] = {{SLIRP_POLL_IN, POLLIN, EPOLLIN},
                                   {SLIRP_POLL_OUT, POLLOUT, EPOLLOUT},
                                   {SLIRP_POLL_PRI, POLLPRI, EPOLLPRI},
                                   {SLIRP_POLL_ERR, POLLERR, EPOLLERR},
                                   {SLIRP_POLL_HUP, POLLHUP, EPOLLHUP}};

}  // namespace

/// What libslirp calls. `opaque` is the UserNetwork.
struct SlirpCallbacks {
  static ssize_t send_packet(const void* bytes, std::size_t size, void* opaque) {
    static_cast<UserNetwork*>(opaque)->deliver({static_cast<const std::byte*>(bytes), size});
    return static_cast<ssize_t>(size);
  }
  static void guest_error(const char* message, void*) { log::debug("net", "{}", message); }
  static std::int64_t clock_get_ns(void*) {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * std::int64_t{1'000'000'000} + now.tv_nsec;
  }
  // Router advertisements only, which belong to IPv6.
  static void* timer_new(SlirpTimerCb, void*, void*) { return nullptr; }
  static void timer_free(void*, void*) {}
  static void timer_mod(void*, std::int64_t, void*) {}
  static void register_poll_fd(int, void*) {}
  static void unregister_poll_fd(int fd, void* opaque) {
    auto& network = *static_cast<UserNetwork*>(opaque);
    network.reactor_.forget(fd);
    network.sockets_.erase(fd);
  }
  static void notify(void*) {}
};

Result<PublishedPort> PublishedPort::parse(const std::string& text) {
  PublishedPort port;
  std::string_view rest = text;
  if (rest.ends_with("/udp")) port.udp = true;
  if (rest.ends_with("/udp") || rest.ends_with("/tcp")) rest.remove_suffix(4);
  const std::size_t last = rest.rfind(':');
  const std::size_t first = last == std::string_view::npos || last == 0 ? last : rest.rfind(':', last - 1);
  if (last == std::string_view::npos) {
    return Error{fmt::format("publish={}: write HOST:GUEST, two port numbers", text)};
  }
  const bool with_address = first != std::string_view::npos && first != last;
  const std::string_view host = rest.substr(with_address ? first + 1 : 0, last - (with_address ? first + 1 : 0));
  if (with_address) port.host_address = rest.substr(0, first);
  const auto host_port = parse_port(host);
  const auto guest_port = parse_port(rest.substr(last + 1));
  in_addr address{};
  if (!host_port || !guest_port || inet_pton(AF_INET, port.host_address.c_str(), &address) != 1) {
    return Error{fmt::format("publish={}: write [ADDRESS:]HOST:GUEST[/udp] with ports from 1 to 65535", text)};
  }
  port.host_port = *host_port;
  port.guest_port = *guest_port;
  return port;
}

UserNetwork::UserNetwork(Reactor& reactor, UniqueFd timer) : reactor_(reactor), timer_(std::move(timer)) {}

Result<std::unique_ptr<UserNetwork>> UserNetwork::create(const UserNetworkConfig& config, Reactor& reactor) {
  UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer.valid()) return system_error("cannot create a timer");
  std::unique_ptr<UserNetwork> network(new UserNetwork(reactor, std::move(timer)));

  static constexpr SlirpCb kCallbacks{.send_packet = SlirpCallbacks::send_packet,
                                      .guest_error = SlirpCallbacks::guest_error,
                                      .clock_get_ns = SlirpCallbacks::clock_get_ns,
                                      .timer_new = SlirpCallbacks::timer_new,
                                      .timer_free = SlirpCallbacks::timer_free,
                                      .timer_mod = SlirpCallbacks::timer_mod,
                                      .register_poll_fd = SlirpCallbacks::register_poll_fd,
                                      .unregister_poll_fd = SlirpCallbacks::unregister_poll_fd,
                                      .notify = SlirpCallbacks::notify,
                                      .init_completed = nullptr,
                                      .timer_new_opaque = nullptr};
  SlirpConfig slirp{};
  slirp.version = 3;
  slirp.restricted = config.restricted ? 1 : 0;
  slirp.in_enabled = true;
  slirp.vnetwork = ipv4("10.0.2.0");
  slirp.vnetmask = ipv4("255.255.255.0");
  slirp.vhost = ipv4(kGateway);
  slirp.vdhcp_start = ipv4("10.0.2.15");
  slirp.vnameserver = name_server();
  slirp.vhostname = config.host_name.empty() ? nullptr : config.host_name.c_str();
  slirp.disable_dns = slirp.vnameserver.s_addr != ipv4(kForwarder).s_addr;
  slirp.if_mtu = kMtu;
  slirp.if_mru = kMtu;
  network->slirp_ = slirp_new(&slirp, &kCallbacks, network.get());
  if (network->slirp_ == nullptr) return Error{"libslirp cannot start a user-mode network"};
  for (const PublishedPort& port : config.published) {
    if (Result<void> published = network->publish(port); !published) return published.error();
  }
  return network;
}

Result<void> UserNetwork::publish(const PublishedPort& port) {
  if (slirp_add_hostfwd(slirp_, port.udp ? 1 : 0, ipv4(port.host_address.c_str()), port.host_port, ipv4("10.0.2.15"),
                        port.guest_port) == 0) {
    return {};
  }
  const int error = errno;
  const std::string what =
      fmt::format("cannot publish {} port {} of {}", port.udp ? "UDP" : "TCP", port.host_port, port.host_address);
  constexpr std::uint16_t kFirstUnprivileged = 1024;
  if (error == EACCES && port.host_port < kFirstUnprivileged) {
    return Error{fmt::format(
        "{}: ports below {} take a privilege that a machine in its jail has not, whoever starts it; take another "
        "(publish={}:{}), or have root permit it to everybody: sysctl net.ipv4.ip_unprivileged_port_start={}",
        what, kFirstUnprivileged, port.host_port + 8000, port.guest_port, port.host_port)};
  }
  return system_error(what, error);
}

UserNetwork::~UserNetwork() {
  if (lock_ != nullptr) {
    // A callback may be at work: it changes what is watched, and must not watch anything afterwards.
    const std::lock_guard guard(*lock_);
    closing_ = true;
    reactor_.forget(timer_.get());
    for (const auto& [fd, socket] : sockets_) reactor_.forget(fd);
  }
  reactor_.synchronize();
  if (slirp_ == nullptr) return;
  reset_peers();
  slirp_cleanup(slirp_);
}

void UserNetwork::attach(Receiver& receiver, std::mutex& lock) {
  receiver_ = &receiver;
  lock_ = &lock;
  reactor_.watch(timer_.get(), EPOLLIN, [this](std::uint32_t) { on_ready(); });
  const std::lock_guard guard(lock);
  update_watches();
}

std::uint16_t UserNetwork::mtu() const {
  return kMtu;
}

void UserNetwork::send(const FrameHeader& header, std::span<std::byte> frame) {
  if (frame.size() < kEthernetHeader) return;
  std::memcpy(card_.data(), &frame[card_.size()], card_.size());
  if (!cut_.open.empty()) {
    if (const std::optional<TcpConnection> ended = ended_by(frame)) std::erase(cut_.open, *ended);
  }
  if ((header.flags & FrameHeader::kNeedsChecksum) != 0 && !complete_checksum(header, frame)) return;
  slirp_input(slirp_, reinterpret_cast<const std::uint8_t*>(frame.data()), static_cast<int>(frame.size()));
}

void UserNetwork::deliver(std::span<const std::byte> frame) {
  FrameHeader header;
  header.flags = FrameHeader::kDataValid;
  if (!blocked() && receiver_ != nullptr && receiver_->receive(header, frame)) {
    delivered_ = true;
  } else if (waiting_.size() < kMostWaiting) {
    waiting_.emplace_back(frame.begin(), frame.end());
  }
}

void UserNetwork::resume_receiving() {
  FrameHeader header;
  header.flags = FrameHeader::kDataValid;
  const bool was_blocked = blocked(), begins_to_ask = times_asked_ == 0 && !cut_.open.empty();
  while (blocked() && receiver_->receive(header, waiting_.front())) waiting_.pop_front();
  if (begins_to_ask) ask_for_cut_connections();
  if ((was_blocked || begins_to_ask) && !blocked()) update_watches();
}

TcpConnections UserNetwork::connections() {
  TcpConnections result{card_, {}};
  for (const Translated& each : translated_by(slirp_)) result.open.push_back(each.connection);
  if (result.open.empty()) result.card = cut_.card;
  result.open.insert(result.open.end(), cut_.open.begin(), cut_.open.end());
  if (result.open.size() > TcpConnections::kMost) result.open.resize(TcpConnections::kMost);
  return result;
}

void UserNetwork::cut(const TcpConnections& connections) {
  cut_ = connections;
  times_asked_ = 0;
}

/// Once the guest runs, and again after ever longer pauses, since a question, its answer and the reset can be lost like
/// any segment. What the guest answers, libslirp resets, which has no such connections; after that the guest's answer
/// is a reset itself. The first pause is longer than that in which Linux answers only once (tcp_invalid_ratelimit).
void UserNetwork::ask_for_cut_connections() {
  constexpr std::chrono::seconds kFirstPause{1};
  ask_again_ = std::chrono::steady_clock::now() + kFirstPause * (1U << times_asked_);
  ++times_asked_;
  for (const TcpConnection& connection : cut_.open) {
    // Otherwise libslirp first asks where the guest is, and may give the reset up before it looks for an answer.
    const std::vector<std::byte> known = announcement(connection, cut_.card);
    slirp_input(slirp_, reinterpret_cast<const std::uint8_t*>(known.data()), static_cast<int>(known.size()));
    for (const std::vector<std::byte>& frame : questions(connection, cut_.card)) deliver(frame);
  }
}

/// Whoever waits for more from the guest shall not take the machine's end for the end of what the guest had to say.
void UserNetwork::reset_peers() {
  const linger at_once{1, 0};
  for (const Translated& each : translated_by(slirp_)) {
    const bool guest_has_ended =
        each.state == "CLOSE_WAIT" || each.state == "LAST_ACK" || each.state == "CLOSING" || each.state == "TIME_WAIT";
    if (!guest_has_ended) ::setsockopt(each.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  }
}

void UserNetwork::on_ready() {
  const std::lock_guard guard(*lock_);
  if (closing_) return;
  poll_sockets();
  if (asks_again() && std::chrono::steady_clock::now() >= ask_again_) ask_for_cut_connections();
  update_watches();
}

void UserNetwork::poll_sockets() {
  std::vector<pollfd> fds;
  std::uint32_t timeout = kLongestWait;
  slirp_pollfds_fill(
      slirp_, &timeout,
      [](int fd, int events, void* opaque) {
        auto& list = *static_cast<std::vector<pollfd>*>(opaque);
        pollfd entry{fd, 0, 0};
        for (const EventBit& each : kEventBits) {
          if ((events & each.slirp) != 0) entry.events = static_cast<short>(entry.events | each.poll);
        }
        list.push_back(entry);
        return static_cast<int>(list.size() - 1);
      },
      &fds);
  const int ready = ::poll(fds.data(), fds.size(), 0);
  slirp_pollfds_poll(
      slirp_, ready < 0 ? 1 : 0,
      [](int index, void* opaque) {
        const pollfd& entry = (*static_cast<std::vector<pollfd>*>(opaque))[static_cast<std::size_t>(index)];
        int events = 0;
        for (const EventBit& each : kEventBits) {
          if ((entry.revents & each.poll) != 0) events |= each.slirp;
        }
        return events;
      },
      &fds);
}

/// Has the reactor wait for what libslirp waits for.
void UserNetwork::update_watches() {
  if (std::exchange(delivered_, false)) receiver_->received_all();
  for (auto& [fd, socket] : sockets_) socket.wanted = false;
  std::uint32_t timeout = kLongestWait;
  if (!blocked()) {
    slirp_pollfds_fill(
        slirp_, &timeout,
        [](int fd, int events, void* opaque) {
          auto& network = *static_cast<UserNetwork*>(opaque);
          std::uint32_t wanted = 0;
          for (const EventBit& each : kEventBits) {
            if ((events & each.slirp) != 0) wanted |= each.epoll;
          }
          const auto [found, is_new] = network.sockets_.try_emplace(fd);
          if (is_new) {
            network.reactor_.watch(fd, wanted, [&network](std::uint32_t) { network.on_ready(); });
          } else if (found->second.events != wanted) {
            network.reactor_.set_events(fd, wanted);
          }
          found->second = {wanted, true};
          return 0;
        },
        this);
  }
  for (auto socket = sockets_.begin(); socket != sockets_.end();) {
    if (socket->second.wanted) {
      ++socket;
    } else {
      // Not only without events: a hang-up would be told again and again.
      reactor_.forget(socket->first);
      socket = sockets_.erase(socket);
    }
  }
  if (asks_again()) {
    using Milliseconds = std::chrono::milliseconds;
    const auto until = std::chrono::ceil<Milliseconds>(ask_again_ - std::chrono::steady_clock::now());
    timeout = std::min(timeout, static_cast<std::uint32_t>(std::max(until, Milliseconds{}).count()));
  }
  arm_timer(timeout);
}

void UserNetwork::arm_timer(std::uint32_t timeout_ms) {
  constexpr std::uint32_t kMillisecondsPerSecond = 1000;
  constexpr long kNanosecondsPerMillisecond = 1'000'000;
  timeout_ms = std::max(timeout_ms, 1U);
  itimerspec when{};
  // With nobody at work libslirp has no deadline: no timer then, and an idle machine stays idle.
  if (timeout_ms < kLongestWait) {
    when.it_value.tv_sec = timeout_ms / kMillisecondsPerSecond;
    when.it_value.tv_nsec = static_cast<long>(timeout_ms % kMillisecondsPerSecond) * kNanosecondsPerMillisecond;
  }
  ::timerfd_settime(timer_.get(), 0, &when, nullptr);
}

}  // namespace doppel::net
