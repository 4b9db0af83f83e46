#include "devices/virtio/vsock.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <string_view>

#include "base/bits.h"

namespace doppel::devices::virtio {
namespace {

constexpr std::uint32_t kOtherCommunication = 0x07'8000;
constexpr std::uint16_t kQueueSize = 256;
constexpr std::uint64_t kHostCid = 2;
/// Ports that no program of the host asks for by number.
constexpr std::uint32_t kFirstHostPort = 1U << 30;
constexpr std::size_t kMostConnections = 1024, kMostControl = 256;
/// "CONNECT 4294967295\n" is shorter.
constexpr std::size_t kLongestLine = 32;
constexpr std::uint32_t kMostData = 64 * 1024;
constexpr std::uint32_t kTransportReset = 0;  // enum virtio_vsock_event_id

/// The port of a line "CONNECT <port>".
std::optional<std::uint32_t> parse_connect(std::string_view line) {
  constexpr std::string_view kConnect = "CONNECT ";
  if (!line.starts_with(kConnect)) return std::nullopt;
  line.remove_prefix(kConnect.size());
  std::uint32_t port = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), port);
  if (error != std::errc{} || end != line.data() + line.size()) return std::nullopt;
  return port;
}

}  // namespace

Vsock::Vsock(Config config, net::Reactor& reactor, memory::GuestMemory& memory)
    : Device(std::move(config.name),
             {.type = DeviceType::Socket,
              .class_code = kOtherCommunication,
              .queues = {kQueueSize, kQueueSize, kQueueSize}},
             memory),
      guest_cid_(config.guest_cid),
      listener_(std::move(config.listener)),
      connect_(std::move(config.connect)),
      reactor_(reactor),
      next_port_(kFirstHostPort) {
  store_le(config_.data(), guest_cid_);
  if (listener_.valid()) reactor_.watch(listener_.get(), EPOLLIN, [this](std::uint32_t) { on_accept(); });
}

Vsock::~Vsock() {
  reactor_.forget(listener_.get());
  {
    const std::lock_guard guard(lock());
    for (const auto& [key, connection] : connections_) reactor_.forget(connection->fd());
    for (const auto& [fd, handshake] : handshakes_) reactor_.forget(fd);
  }
  reactor_.synchronize();
}

void Vsock::on_reset() {
  while (!connections_.empty()) remove(connections_.begin()->first);
  control_.clear();
  receive_starved_ = false;
  transport_reset_ = false;
  reset_sent_.reset();
  early_.clear();
}

void Vsock::describe_device(state::Visitor& v) {
  v.field(50, "next_port", next_port_);
  v.on_loaded([this] {
    while (!connections_.empty()) remove(connections_.begin()->first);
    control_.clear();
    transport_reset_ = true;
    reset_sent_.reset();
  });
}

void Vsock::on_notify(unsigned index) {
  switch (index) {
    case kReceiveQueue:
      fill_receive_queue();
      // What waited for room in control_.
      transmit();
      break;
    case kTransmitQueue:
      transmit();
      break;
    default:
      send_transport_reset();
      if (awaits_reset()) break;
      for (auto& [fd, port] : std::exchange(early_, {})) open_to_guest(std::move(fd), port);
      break;
  }
}

void Vsock::transmit() {
  do {
    while (control_.size() < kMostControl && take(kTransmitQueue, chain_)) {
      VsockHeader header;
      if (!chain_.read(0, header) || header.length > total_bytes(chain_.readable) - sizeof header) {
        return fail("a vsock packet that is shorter than it says");
      }
      handle(header, chain_);
      queue(kTransmitQueue).push(chain_.head, 0);
    }
  } while (rest(kTransmitQueue) && control_.size() < kMostControl);
  interrupt(kTransmitQueue);
  fill_receive_queue();
}

void Vsock::handle(const VsockHeader& header, const Chain& chain) {
  if (header.source_cid != guest_cid_ || header.destination_cid != kHostCid) return;
  const Key key{header.destination_port, header.source_port};
  const auto operation = static_cast<VsockOperation>(header.operation);
  if (header.type != kVsockStream) {
    if (operation != VsockOperation::Reset) send_control(key, VsockOperation::Reset);
    return;
  }
  const auto found = connections_.find(key);
  if (found != connections_.end()) {
    found->second->note_credit(header);
    return handle_established(key, *found->second, header, chain);
  }
  if (operation == VsockOperation::Request) return handle_request(key, header);
  if (operation != VsockOperation::Reset) send_control(key, VsockOperation::Reset);
}

void Vsock::handle_request(const Key& key, const VsockHeader& header) {
  UniqueFd fd = connect_ && connections_.size() < kMostConnections ? connect_(key.first) : UniqueFd();
  if (!fd.valid()) return send_control(key, VsockOperation::Reset);
  auto connection = std::make_unique<VsockConnection>(std::move(fd), VsockConnection::State::Established);
  connection->note_credit(header);
  watch(key, *connection);
  VsockConnection& added = *connections_.emplace(key, std::move(connection)).first->second;
  send_control(key, VsockOperation::Response);
  // The host may be the first to speak.
  update(key, added);
}

void Vsock::handle_established(const Key& key, VsockConnection& connection, const VsockHeader& header,
                               const Chain& chain) {
  switch (static_cast<VsockOperation>(header.operation)) {
    case VsockOperation::Response: {
      if (connection.state != VsockConnection::State::Requested) break;
      connection.state = VsockConnection::State::Established;
      const std::string line = fmt::format("OK {}\n", key.first);
      [[maybe_unused]] const ssize_t told = ::send(connection.fd(), line.data(), line.size(), MSG_NOSIGNAL);
      return update(key, connection);
    }
    case VsockOperation::ReadWrite:
      if (connection.state == VsockConnection::State::Established &&
          connection.write(chain.readable, sizeof header, header.length)) {
        if (connection.owes_credit_update()) send_control(key, VsockOperation::CreditUpdate);
        return update(key, connection);
      }
      break;
    case VsockOperation::CreditUpdate:
      return update(key, connection);
    case VsockOperation::CreditRequest:
      return send_control(key, VsockOperation::CreditUpdate);
    case VsockOperation::Shutdown:
      connection.guest_takes_no_more |= (header.flags & kShutdownReceive) != 0;
      connection.guest_sends_no_more |= (header.flags & kShutdownSend) != 0;
      return update(key, connection);
    case VsockOperation::Reset:
      connection.flush();
      return remove(key);
    default:
      break;
  }
  send_control(key, VsockOperation::Reset);
  remove(key);
}

void Vsock::on_accept() {
  const std::lock_guard guard(lock());
  UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd.valid() || handshakes_.size() + connections_.size() >= kMostConnections) return;
  const int number = fd.get();
  handshakes_[number] = {std::move(fd), {}};
  reactor_.watch(number, EPOLLIN, [this, number](std::uint32_t) { on_handshake(number); });
}

void Vsock::on_handshake(int fd) {
  const std::lock_guard guard(lock());
  const auto found = handshakes_.find(fd);
  if (found == handshakes_.end()) return;
  Handshake& handshake = found->second;
  for (;;) {
    char c = 0;
    const ssize_t got = ::recv(fd, &c, 1, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (got == 1 && c != '\n' && handshake.line.size() < kLongestLine) {
      handshake.line += c;
      continue;
    }
    reactor_.forget(fd);
    const auto port = got == 1 && c == '\n' ? parse_connect(handshake.line) : std::nullopt;
    UniqueFd socket = std::move(handshake.fd);
    handshakes_.erase(found);
    if (port) open_to_guest(std::move(socket), *port);
    return;
  }
}

void Vsock::open_to_guest(UniqueFd fd, std::uint32_t guest_port) {
  if (!is_active()) return;
  if (awaits_reset()) {
    if (early_.size() < kMostConnections) early_.emplace_back(std::move(fd), guest_port);
    return;
  }
  // A number is not used again soon: the guest may still know it.
  while (connections_.contains({next_port_, guest_port})) ++next_port_;
  const Key key{next_port_++, guest_port};
  if (next_port_ == 0) next_port_ = kFirstHostPort;
  auto connection = std::make_unique<VsockConnection>(std::move(fd), VsockConnection::State::Requested);
  watch(key, *connection);
  connections_.emplace(key, std::move(connection));
  send_control(key, VsockOperation::Request);
  fill_receive_queue();
}

void Vsock::watch(const Key& key, const VsockConnection& connection) {
  // Nothing is read before the guest has answered and given credit.
  reactor_.watch(connection.fd(), EPOLLET, [this, key](std::uint32_t events) { on_ready(key, events); });
}

void Vsock::on_ready(const Key& key, std::uint32_t events) {
  const std::lock_guard guard(lock());
  const auto found = connections_.find(key);
  if (found == connections_.end()) return;
  VsockConnection& connection = *found->second;
  if (is_paused()) {
    receive_starved_ = true;
    return set_events(connection, 0);
  }
  if ((events & EPOLLERR) != 0 || (connection.state == VsockConnection::State::Requested && (events & EPOLLHUP) != 0)) {
    send_control(key, VsockOperation::Reset);
    remove(key);
  } else {
    if ((events & (EPOLLIN | EPOLLHUP)) != 0) receive_data(key, connection, (events & EPOLLHUP) != 0);
    if (connections_.contains(key)) update(key, connection);
  }
  fill_receive_queue();
}

/// After anything has changed about a connection: writes what it can, ends what has ended, waits for the rest.
void Vsock::update(const Key& key, VsockConnection& connection) {
  if (!connection.flush()) {
    send_control(key, VsockOperation::Reset);
    return remove(key);
  }
  if (connection.owes_credit_update()) send_control(key, VsockOperation::CreditUpdate);
  if (connection.guest_sends_no_more && !connection.has_unwritten()) {
    if (connection.guest_takes_no_more || connection.shutdown_sent) {
      send_control(key, VsockOperation::Reset);
      return remove(key);
    }
    ::shutdown(connection.fd(), SHUT_WR);
  }
  const bool may_read = connection.state == VsockConnection::State::Established && !connection.shutdown_sent &&
                        connection.credit() > 0 && !receive_starved_;
  std::uint32_t events = 0;
  if (may_read) events |= EPOLLIN;
  if (connection.has_unwritten()) events |= EPOLLOUT;
  set_events(connection, events);
}

void Vsock::set_events(VsockConnection& connection, std::uint32_t events) {
  // A hang-up cannot be masked; edge-triggered, it is at least not told again and again.
  if (events == 0) events = EPOLLET;
  if (connection.watched_events == events) return;
  connection.watched_events = events;
  reactor_.set_events(connection.fd(), events);
}

void Vsock::receive_data(const Key& key, VsockConnection& connection, bool hung_up) {
  if (connection.shutdown_sent || connection.state != VsockConnection::State::Established) return;
  const std::uint32_t allowed = std::min(connection.credit(), kMostData);
  if (allowed == 0) return;
  if (!is_active() || !control_.empty() || !take(kReceiveQueue, chain_)) {
    receive_starved_ = true;
    queue(kReceiveQueue).want_notification();
    return;
  }
  const std::uint64_t room = total_bytes(chain_.writable);
  if (room <= sizeof(VsockHeader)) return fail("a vsock receive buffer without room");
  const std::vector<Buffer> into =
      slice(chain_.writable, sizeof(VsockHeader), std::min<std::uint64_t>(allowed, room - sizeof(VsockHeader)));
  std::vector<iovec> vectors;
  vectors.reserve(into.size());
  for (const Buffer& buffer : into) vectors.push_back({buffer.host, buffer.length});
  const ssize_t got = ::readv(connection.fd(), vectors.data(), static_cast<int>(vectors.size()));
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return queue(kReceiveQueue).unpop();
  if (got <= 0) {
    queue(kReceiveQueue).unpop();
    connection.shutdown_sent = true;
    return send_control(key, VsockOperation::Shutdown,
                        got == 0 && !hung_up ? kShutdownSend : kShutdownSend | kShutdownReceive);
  }
  std::uint64_t left = static_cast<std::uint64_t>(got);
  for (const Buffer& buffer : into) {
    const std::uint64_t written = std::min<std::uint64_t>(left, buffer.length);
    memory().note_device_write(buffer.address, written);
    left -= written;
  }
  VsockHeader header = header_for(key, &connection, VsockOperation::ReadWrite);
  header.length = static_cast<std::uint32_t>(got);
  scatter(memory(), chain_.writable, 0, std::as_bytes(std::span{&header, 1}));
  connection.note_sent(header.length);
  queue(kReceiveQueue).push(chain_.head, static_cast<std::uint32_t>(sizeof header + header.length));
}

VsockHeader Vsock::header_for(const Key& key, VsockConnection* connection, VsockOperation operation) const {
  VsockHeader header;
  header.source_cid = kHostCid;
  header.destination_cid = guest_cid_;
  header.source_port = key.first;
  header.destination_port = key.second;
  header.type = kVsockStream;
  header.operation = static_cast<std::uint16_t>(operation);
  if (connection != nullptr) {
    header.buffer_allocation = VsockConnection::kBufferBytes;
    header.forward_count = connection->forwarded();
    connection->note_told();
  }
  return header;
}

void Vsock::send_control(const Key& key, VsockOperation operation, std::uint32_t flags) {
  const auto found = connections_.find(key);
  VsockHeader header = header_for(key, found != connections_.end() ? found->second.get() : nullptr, operation);
  header.flags = flags;
  control_.push_back(header);
}

void Vsock::fill_receive_queue() {
  while (!control_.empty() && is_active()) {
    if (!take(kReceiveQueue, chain_)) {
      queue(kReceiveQueue).want_notification();
      if (!take(kReceiveQueue, chain_)) break;
    }
    const auto bytes = std::as_bytes(std::span{&control_.front(), 1});
    if (scatter(memory(), chain_.writable, 0, bytes) != bytes.size())
      return fail("a vsock receive buffer without room");
    queue(kReceiveQueue).push(chain_.head, static_cast<std::uint32_t>(bytes.size()));
    control_.pop_front();
  }
  if (receive_starved_ && control_.empty() && is_active() && queue(kReceiveQueue).has_requests()) {
    receive_starved_ = false;
    std::vector<Key> keys;
    for (const auto& [key, connection] : connections_) keys.push_back(key);
    for (const Key& key : keys) {
      if (const auto found = connections_.find(key); found != connections_.end()) update(key, *found->second);
    }
  }
  interrupt(kReceiveQueue);
}

void Vsock::send_transport_reset() {
  if (!transport_reset_ || !take(kEventQueue, chain_)) return;
  const std::uint32_t event = kTransportReset;
  scatter(memory(), chain_.writable, 0, std::as_bytes(std::span{&event, 1}));
  queue(kEventQueue).push(chain_.head, sizeof event);
  transport_reset_ = false;
  reset_sent_ = queue(kEventQueue).driver_index();
  // Drivers put a buffer back once they have acted on what was in it.
  queue(kEventQueue).want_notification();
  interrupt(kEventQueue);
}

bool Vsock::awaits_reset() {
  if (reset_sent_ && queue(kEventQueue).driver_index() != *reset_sent_) reset_sent_.reset();
  return transport_reset_ || reset_sent_;
}

void Vsock::remove(const Key& key) {
  const auto found = connections_.find(key);
  if (found == connections_.end()) return;
  reactor_.forget(found->second->fd());
  connections_.erase(found);
}

}  // namespace doppel::devices::virtio
