#pragma once

#include <functional>
#include <string_view>

#include "debug/gdb_session.h"
#include "debug/packet_stream.h"

namespace doppel::debug {

/// A session with its packet layer: bytes in, bytes out. One per connection; a socket is somebody else's.
class GdbConnection {
 public:
  GdbConnection(DebugTarget& target, std::function<void(std::string_view bytes)> send_bytes)
      : stream_({[this](std::string_view packet) { receive_packet(packet); }, [this] { session_.interrupt(); },
                 std::move(send_bytes)}),
        session_(target, {[this](std::string_view packet) { stream_.send(packet); },
                          [this] { stream_.stop_acknowledging(); }}) {}

  void receive(std::string_view bytes) { stream_.receive(bytes); }
  GdbSession& session() { return session_; }
  /// The debugger has detached, or the machine is gone.
  bool over() const {
    return session_.state() == GdbSession::State::Detached || session_.state() == GdbSession::State::Killed;
  }

 private:
  void receive_packet(std::string_view packet) {
    if (!over()) session_.handle_packet(packet);
  }

  PacketStream stream_;
  GdbSession session_;
};

}  // namespace doppel::debug
