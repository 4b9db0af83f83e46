#pragma once

#include <cstdint>

#include "base/fd.h"
#include "control/registry.h"

/// A guest's connections to ports of the host are connections to Unix sockets beside the machine's own, which a machine
/// in its jail cannot reach: a process outside makes them for it. All that a machine gains by that are sockets in its
/// own directory, whose names say that they are meant for its guest.
///
/// Over a Unix socket of whole packets: a port in digits, answered by "ok" with the connection, or "none".
namespace doppel::control {

/// The side that has the files; returns when the other side is gone.
void serve_vsock_connector(int socket, const VmPaths& paths);

/// The machine's side.
class VsockConnector {
 public:
  /// The socket stays the caller's.
  explicit VsockConnector(int socket) : socket_(socket) {}

  /// A non-blocking stream socket; not valid when nobody listens there. One thread at a time.
  UniqueFd operator()(std::uint32_t host_port) const;

 private:
  int socket_;
};

}  // namespace doppel::control
