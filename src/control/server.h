#pragma once

#include <functional>
#include <map>
#include <memory>

#include "base/fd.h"
#include "control/event_loop.h"
#include "control/http.h"

namespace doppel::control {

/// Serves HTTP on a listening Unix socket in the loop's thread. Whoever connects is hostile: their number, the size of
/// what they send and their time are limited.
class HttpServer {
 public:
  using Handler = std::function<HttpResponse(const HttpRequest&)>;
  static constexpr std::size_t kMaxConnections = 32;
  /// For one request to arrive and its answer to be taken, and between requests.
  static constexpr EventLoop::Clock::duration kPatience = std::chrono::seconds(10);

  HttpServer(EventLoop& loop, UniqueFd listener, Handler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  std::size_t connections() const { return connections_.size(); }

 private:
  struct Connection {
    UniqueFd fd;
    std::string received;
    std::string to_send;
    bool close_when_sent = false;
    bool told_to_continue = false;
    EventLoop::TimerId timer = 0;
    std::uint64_t number = 0;  ///< unlike `fd`, no other connection's ever
    bool waiting = false;      ///< for an answer that comes later
  };

  void accept_all();
  void on_ready(int fd, short events);
  bool receive(Connection& connection);
  void serve(Connection& connection);
  void answer(Connection& connection, const HttpResponse& response, bool keep_alive);
  void answer_later(int fd, std::uint64_t number, const HttpResponse& response, bool keep_alive);
  bool send(Connection& connection);
  void restart_timer(Connection& connection);
  void close(int fd);

  EventLoop& loop_;
  UniqueFd listener_;
  Handler handler_;
  std::map<int, Connection> connections_;
  std::uint64_t last_number_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  ///< for answers that come too late
};

}  // namespace doppel::control
