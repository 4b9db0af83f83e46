#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "net/backend.h"
#include "net/reactor.h"

struct Slirp;

namespace doppel::net {

/// A port of the host that leads to one of the guest.
struct PublishedPort {
  bool udp = false;
  std::string host_address = "127.0.0.1";
  std::uint16_t host_port = 0;
  std::uint16_t guest_port = 0;

  /// "[ADDRESS:]HOST:GUEST[/udp|/tcp]"
  static Result<PublishedPort> parse(const std::string& text);
};

struct UserNetworkConfig {
  std::vector<PublishedPort> published;
  bool restricted = false;  ///< the guest reaches nobody; published ports still work
  std::string host_name;    ///< what DHCP calls the guest
};

/// Network address translation in user space (libslirp): the guest is 10.0.2.15, its gateway and host 10.0.2.2, its
/// name server 10.0.2.3; DHCP tells it so. Connections go out as the monitor's own.
///
/// Frames of the guest are handled in the thread that sends them; the reactor's thread handles what comes from the
/// host's sockets.
class UserNetwork : public Backend {
 public:
  /// The error is a port that cannot be published. `reactor` outlives the network.
  static Result<std::unique_ptr<UserNetwork>> create(const UserNetworkConfig& config, Reactor& reactor);
  ~UserNetwork() override;

  void attach(Receiver& receiver, std::mutex& lock) override;
  std::uint16_t mtu() const override;
  bool receives_offloads() const override { return false; }
  void set_receive_offloads(const Offloads&) override {}
  void send(const FrameHeader& header, std::span<std::byte> frame) override;
  void sent_all() override { update_watches(); }
  void resume_receiving() override;
  TcpConnections connections() override;
  void cut(const TcpConnections& connections) override;

 private:
  static constexpr unsigned kMostAsked = 6;

  UserNetwork(Reactor& reactor, UniqueFd timer);
  Result<void> publish(const PublishedPort& port);
  void deliver(std::span<const std::byte> frame);
  bool blocked() const { return !waiting_.empty(); }
  bool asks_again() const { return times_asked_ != 0 && times_asked_ < kMostAsked && !cut_.open.empty() && !blocked(); }
  void ask_for_cut_connections();
  void reset_peers();
  /// In the reactor's thread.
  void on_ready();
  void poll_sockets();
  void update_watches();
  void arm_timer(std::uint32_t timeout_ms);
  friend struct SlirpCallbacks;

  Reactor& reactor_;
  Slirp* slirp_ = nullptr;
  Receiver* receiver_ = nullptr;
  std::mutex* lock_ = nullptr;
  UniqueFd timer_;  ///< a timerfd: libslirp's own deadlines
  struct Socket {
    std::uint32_t events = 0;  ///< of epoll
    bool wanted = false;
  };
  std::map<int, Socket> sockets_;
  std::deque<std::vector<std::byte>> waiting_;  ///< frames for which the guest had no room
  bool delivered_ = false;
  bool closing_ = false;
  std::array<std::uint8_t, 6> card_{};  ///< where the guest's last frame came from
  TcpConnections cut_;                  ///< without those of which the guest has said that it does not have them
  unsigned times_asked_ = 0;            ///< for those
  std::chrono::steady_clock::time_point ask_again_;
};

}  // namespace doppel::net
