#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "debug/debug_target.h"

namespace doppel::debug {

/// Listens on TCP for GDB and serves one at a time, in a thread of its own; the machine runs on when nobody is there.
/// Create it before the machine runs, destroy it when the machine has ended.
class GdbServer {
 public:
  /// `address` is "HOST:PORT" or ":PORT", which is the loopback interface only: whoever connects owns the guest.
  /// Port 0 lets the system choose. The target outlives the server.
  static Result<std::unique_ptr<GdbServer>> listen(std::string_view address, DebugTarget& target);
  ~GdbServer();
  GdbServer(const GdbServer&) = delete;
  GdbServer& operator=(const GdbServer&) = delete;

  std::uint16_t port() const;
  /// Tells the debugger that the machine has ended, and how. Any thread.
  void machine_ended(int status);

 private:
  class Impl;
  explicit GdbServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace doppel::debug
