#include "control/vsock_connector.h"

#include <sys/socket.h>

#include <charconv>
#include <optional>
#include <string>

#include "base/packet_socket.h"
#include "control/unix_socket.h"

namespace doppel::control {

void serve_vsock_connector(int socket, const VmPaths& paths) {
  while (const std::optional<Packet> packet = receive_packet(socket)) {
    const std::string& text = packet->text;
    std::uint32_t port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    UniqueFd connection;
    if (error == std::errc{} && end == text.data() + text.size()) {
      // Whoever does not accept in time keeps nobody waiting: the guest holds its processor meanwhile.
      Result<UniqueFd> made = connect_unix(paths.vsock_socket(port), SOCK_NONBLOCK);
      if (made) connection = *std::move(made);
    }
    const int file = connection.get();
    const bool sent = connection.valid() ? send_packet(socket, "ok", {&file, 1}) : send_packet(socket, "none");
    if (!sent) return;
  }
}

UniqueFd VsockConnector::operator()(std::uint32_t host_port) const {
  if (!send_packet(socket_, std::to_string(host_port))) return {};
  std::optional<Packet> answer = receive_packet(socket_);
  return answer && answer->files.size() == 1 ? std::move(answer->files.front()) : UniqueFd();
}

}  // namespace doppel::control
