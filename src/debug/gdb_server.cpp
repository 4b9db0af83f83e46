#include "debug/gdb_server.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/log.h"
#include "debug/gdb_connection.h"

namespace doppel::debug {
namespace {

struct HostAndPort {
  std::string host, port;
};

Result<HostAndPort> parse_address(std::string_view address) {
  const std::size_t colon = address.rfind(':');
  const std::string_view port = colon == std::string_view::npos ? std::string_view{} : address.substr(colon + 1);
  std::uint16_t number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (port.empty() || error != std::errc{} || end != port.data() + port.size())
    return Error{fmt::format("cannot listen for GDB on '{}': write :PORT or HOST:PORT, for example :1234", address)};
  std::string host{address.substr(0, colon)};
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return HostAndPort{host.empty() ? "127.0.0.1" : host, std::string{port}};
}

Result<UniqueFd> open_listener(std::string_view address) {
  Result<HostAndPort> parsed = parse_address(address);
  if (!parsed) return parsed.error();
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (const int code = ::getaddrinfo(parsed->host.c_str(), parsed->port.c_str(), &hints, &found); code != 0)
    return Error{fmt::format("cannot listen for GDB on '{}': {}", address, ::gai_strerror(code))};
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  UniqueFd fd{::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const int on = 1;
  const bool listens = fd.valid() && ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
                       ::bind(fd.get(), found->ai_addr, found->ai_addrlen) == 0 && ::listen(fd.get(), 1) == 0;
  if (!listens)
    return Error{fmt::format("cannot listen for GDB on '{}': {}; choose another port", address, std::strerror(errno))};
  return fd;
}

std::uint16_t bound_port(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  if (address.ss_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
  return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

/// Sends all or gives up: a debugger that is gone is noticed by the next read.
void send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
}

}  // namespace

class GdbServer::Impl {
 public:
  Impl(UniqueFd listener, UniqueFd wake_event, DebugTarget& target)
      : listener_(std::move(listener)), wake_(std::move(wake_event)), target_(target) {
    target_.set_stop_listener([this](const Stop& stop) {
      {
        const std::lock_guard lock(mutex_);
        stops_.push_back(stop);
      }
      wake();
    });
    thread_ = std::thread([this] { serve(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      quit_ = true;
    }
    wake();
    thread_.join();
    target_.set_stop_listener({});
  }

  std::uint16_t port() const { return bound_port(listener_.get()); }

  void machine_ended(int status) {
    {
      const std::lock_guard lock(mutex_);
      ended_ = status;
    }
    wake();
  }

 private:
  void wake() {
    const std::uint64_t one = 1;
    // It can only fail when the counter is full, and then the thread is awake already.
    static_cast<void>(!::write(wake_.get(), &one, sizeof one));
  }

  void serve() {
    for (;;) {
      std::array<pollfd, 2> wait{pollfd{wake_.get(), POLLIN, 0},
                                 pollfd{client_.valid() ? client_.get() : listener_.get(), POLLIN, 0}};
      if (::poll(wait.data(), wait.size(), -1) < 0 && errno != EINTR) return;
      if ((wait[0].revents & POLLIN) != 0 && !handle_wake()) return;
      if (wait[1].revents != 0) client_.valid() ? read_client() : accept_client();
      if (connection_ && connection_->over()) disconnect();
    }
  }

  /// False when the server is to end.
  bool handle_wake() {
    std::uint64_t count = 0;
    static_cast<void>(!::read(wake_.get(), &count, sizeof count));
    std::deque<Stop> stops;
    std::optional<int> ended;
    bool quit = false;
    {
      const std::lock_guard lock(mutex_);
      stops.swap(stops_);
      ended = ended_;
      quit = quit_;
    }
    for (const Stop& stop : stops) {
      if (connection_)
        connection_->session().target_stopped(stop);
      else
        resume_all();  // it was under way when the debugger left
    }
    if (ended && connection_) connection_->session().target_ended(*ended);
    if (quit) disconnect();
    return !quit;
  }

  void resume_all() {
    const std::vector<ResumeAction> actions(target_.vcpu_count(), ResumeAction::Continue);
    target_.resume(actions, {});
  }

  void accept_client() {
    UniqueFd client{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
    if (!client.valid()) return;
    const int on = 1;
    ::setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    // One that does not read must not hold up the end of the machine.
    const timeval patience{5, 0};
    ::setsockopt(client.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    client_ = std::move(client);
    log::info("debug", "a debugger has connected");
    connection_.emplace(target_, [this](std::string_view bytes) { send_all(client_.get(), bytes); });
  }

  void read_client() {
    std::array<char, 4096> buffer;
    const ssize_t received = ::recv(client_.get(), buffer.data(), buffer.size(), 0);
    if (received < 0 && errno == EINTR) return;
    if (received <= 0) return disconnect();
    connection_->receive({buffer.data(), static_cast<std::size_t>(received)});
  }

  void disconnect() {
    if (!client_.valid()) return;
    connection_.reset();
    client_.reset();
    log::info("debug", "the debugger has gone");
  }

  UniqueFd listener_, wake_;
  DebugTarget& target_;
  UniqueFd client_;
  std::optional<GdbConnection> connection_;

  std::mutex mutex_;  ///< over what other threads leave for ours
  std::deque<Stop> stops_;
  std::optional<int> ended_;
  bool quit_ = false;

  std::thread thread_;
};

GdbServer::GdbServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GdbServer::~GdbServer() = default;

Result<std::unique_ptr<GdbServer>> GdbServer::listen(std::string_view address, DebugTarget& target) {
  Result<UniqueFd> listener = open_listener(address);
  if (!listener) return listener.error();
  UniqueFd wake{::eventfd(0, EFD_CLOEXEC)};
  if (!wake.valid()) return Error{fmt::format("cannot listen for GDB: {}", std::strerror(errno))};
  return std::unique_ptr<GdbServer>{
      new GdbServer(std::make_unique<Impl>(std::move(*listener), std::move(wake), target))};
}

std::uint16_t GdbServer::port() const {
  return impl_->port();
}

void GdbServer::machine_ended(int status) {
  impl_->machine_ended(status);
}

}  // namespace doppel::debug
