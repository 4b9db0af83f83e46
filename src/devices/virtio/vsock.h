#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "devices/virtio/device.h"
#include "devices/virtio/vsock_connection.h"
#include "net/reactor.h"

namespace doppel::devices::virtio {

/// Stream sockets between guest and host (virtio 1.2, 5.10), the host's side being Unix sockets in the "hybrid" manner:
/// who connects to the listening socket and writes "CONNECT <port>\n" is connected to that port of the guest and reads
/// "OK <host port>\n"; a connection that the guest opens to the host goes where `connect` leads, a socket at
/// "<path>_<port>".
///
/// Data of the guest is written to the host's socket in the thread that rings the doorbell; the reactor's thread reads
/// the other way. Connections do not survive a restored state: the driver is told that the transport was reset.
class Vsock : public Device {
 public:
  struct Config {
    std::string name;
    std::uint64_t guest_cid = 3;
    UniqueFd listener;                                    ///< a listening Unix socket
    std::function<UniqueFd(std::uint32_t port)> connect;  ///< for the guest's connections; may be empty
  };
  Vsock(Config config, net::Reactor& reactor, memory::GuestMemory& memory);
  ~Vsock() override;

 protected:
  void on_notify(unsigned queue) override;
  void on_reset() override;
  std::span<const std::uint8_t> device_config() override { return config_; }
  void describe_device(state::Visitor& v) override;

 private:
  static constexpr unsigned kReceiveQueue = 0, kTransmitQueue = 1, kEventQueue = 2;
  /// Host port, guest port.
  using Key = std::pair<std::uint32_t, std::uint32_t>;

  // The driver's packets.
  void transmit();
  void handle(const VsockHeader& header, const Chain& chain);
  void handle_request(const Key& key, const VsockHeader& header);
  void handle_established(const Key& key, VsockConnection& connection, const VsockHeader& header, const Chain& chain);

  // The host's sockets; called by the reactor.
  void on_accept();
  void on_handshake(int fd);
  void on_ready(const Key& key, std::uint32_t events);

  void open_to_guest(UniqueFd fd, std::uint32_t guest_port);
  void watch(const Key& key, const VsockConnection& connection);
  void update(const Key& key, VsockConnection& connection);
  void remove(const Key& key);
  void send_control(const Key& key, VsockOperation operation, std::uint32_t flags = 0);
  /// Moves what waits into the receive queue, as far as it has buffers: control packets, then data.
  void fill_receive_queue();
  void receive_data(const Key& key, VsockConnection& connection, bool hung_up);
  void set_events(VsockConnection& connection, std::uint32_t events);
  void send_transport_reset();
  /// Whether the driver has yet to forget the connections of the machine that it was. Until then it would forget new
  /// ones as well.
  bool awaits_reset();
  VsockHeader header_for(const Key& key, VsockConnection* connection, VsockOperation operation) const;

  std::array<std::uint8_t, 8> config_{};
  const std::uint64_t guest_cid_;
  const UniqueFd listener_;
  const std::function<UniqueFd(std::uint32_t)> connect_;
  net::Reactor& reactor_;
  Chain chain_;
  std::map<Key, std::unique_ptr<VsockConnection>> connections_;
  struct Handshake {
    UniqueFd fd;
    std::string line;
  };
  std::map<int, Handshake> handshakes_;
  std::deque<VsockHeader> control_;  ///< packets for which the driver had no buffer
  std::uint32_t next_port_;
  bool receive_starved_ = false;                           ///< some socket's data waits for a buffer
  bool transport_reset_ = false;                           ///< the driver is owed the event
  std::optional<std::uint16_t> reset_sent_;                ///< it has the event: the event queue's driver_index() then
  std::vector<std::pair<UniqueFd, std::uint32_t>> early_;  ///< connections, with the guest's port, that wait for that
};

}  // namespace doppel::devices::virtio
