#include "control/server.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "control/unix_socket.h"

namespace doppel::control {
namespace {

/// More than one request's worth waits for its turn in the socket, not here.
constexpr std::size_t kMaxReceived = kMaxHead + kMaxRequestBody + 4;

}  // namespace

HttpServer::HttpServer(EventLoop& loop, UniqueFd listener, Handler handler)
    : loop_(loop), listener_(std::move(listener)), handler_(std::move(handler)) {
  loop_.watch(listener_.get(), POLLIN, [this](short) { accept_all(); });
}

HttpServer::~HttpServer() {
  *alive_ = false;
  loop_.forget(listener_.get());
  while (!connections_.empty()) close(connections_.begin()->first);
}

void HttpServer::accept_all() {
  while (connections_.size() < kMaxConnections) {
    UniqueFd fd = accept_unix(listener_.get());
    if (!fd.valid()) return;
    const int number = fd.get();
    Connection& connection = connections_[number];
    connection.fd = std::move(fd);
    connection.number = ++last_number_;
    restart_timer(connection);
    loop_.watch(number, POLLIN, [this, number](short events) { on_ready(number, events); });
  }
  loop_.set_events(listener_.get(), 0);  // until one of them goes
}

void HttpServer::restart_timer(Connection& connection) {
  loop_.cancel(connection.timer);
  connection.timer = loop_.after(kPatience, [this, fd = connection.fd.get()] { close(fd); });
}

void HttpServer::close(int fd) {
  loop_.forget(fd);
  loop_.cancel(connections_[fd].timer);
  connections_.erase(fd);
  loop_.set_events(listener_.get(), POLLIN);
}

void HttpServer::on_ready(int fd, short events) {
  Connection& connection = connections_[fd];
  if ((events & (POLLIN | POLLHUP | POLLERR)) != 0 && connection.to_send.empty() && !receive(connection)) {
    return close(fd);
  }
  if (!send(connection)) return close(fd);
  serve(connection);
  if (!send(connection) || (connection.to_send.empty() && connection.close_when_sent)) return close(fd);
  loop_.set_events(fd, connection.to_send.empty() ? POLLIN : POLLOUT);
}

/// False when the other side is gone.
bool HttpServer::receive(Connection& connection) {
  std::array<char, 16384> buffer{};
  const std::size_t room = std::min(buffer.size(), kMaxReceived - std::min(kMaxReceived, connection.received.size()));
  if (room == 0) return false;
  const ssize_t got = ::recv(connection.fd.get(), buffer.data(), room, 0);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  connection.received.append(buffer.data(), static_cast<std::size_t>(got));
  return got > 0;
}

/// Answers the requests that are complete, one after the other.
void HttpServer::serve(Connection& connection) {
  while (connection.to_send.empty() && !connection.waiting && !connection.close_when_sent &&
         !connection.received.empty()) {
    const ParsedRequest parsed = parse_request(connection.received);
    switch (parsed.status) {
      case ParsedRequest::Status::Incomplete:
        if (parsed.expects_continue && !connection.told_to_continue) {
          connection.to_send = "HTTP/1.1 100 Continue\r\n\r\n";
          connection.told_to_continue = true;
        }
        return;
      case ParsedRequest::Status::Refused:
        connection.to_send = format_response(parsed.refusal, false);
        connection.close_when_sent = true;
        return;
      case ParsedRequest::Status::Complete:
        connection.told_to_continue = false;
        connection.received.erase(0, parsed.consumed);
        answer(connection, handler_(parsed.request), parsed.request.keep_alive);
    }
  }
}

void HttpServer::answer(Connection& connection, const HttpResponse& response, bool keep_alive) {
  if (response.later) {
    connection.waiting = true;
    loop_.cancel(connection.timer);
    response.later([this, alive = alive_, fd = connection.fd.get(), number = connection.number,
                    keep_alive](const HttpResponse& late) {
      loop_.post([this, alive, fd, number, late, keep_alive] {
        if (*alive) answer_later(fd, number, late, keep_alive);
      });
    });
    return;
  }
  connection.to_send = format_response(response, keep_alive);
  connection.close_when_sent = !keep_alive;
  restart_timer(connection);
  if (!send(connection)) connection.close_when_sent = true;
}

void HttpServer::answer_later(int fd, std::uint64_t number, const HttpResponse& response, bool keep_alive) {
  const auto found = connections_.find(fd);
  if (found == connections_.end() || found->second.number != number) return;
  found->second.waiting = false;
  answer(found->second, response, keep_alive);
  on_ready(fd, 0);
}

/// False when the other side is gone.
bool HttpServer::send(Connection& connection) {
  while (!connection.to_send.empty()) {
    const ssize_t sent =
        ::send(connection.fd.get(), connection.to_send.data(), connection.to_send.size(), MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    connection.to_send.erase(0, static_cast<std::size_t>(sent));
  }
  return true;
}

}  // namespace doppel::control
