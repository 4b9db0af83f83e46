#pragma once

#include <sys/types.h>

#include <functional>

#include "base/fd.h"
#include "base/result.h"

namespace doppel::cli {

/// A process that waits for this one's end, whatever way it comes, and then does what is left to do: restores a
/// terminal, removes the traces of a machine that has locked itself out of the file system. Start it before the
/// process has threads. Destruction lets it do its work and waits for that.
class Guardian {
 public:
  /// `keep` stays open in the guardian; no other descriptor does, or whoever reads this process's output would wait for
  /// the guardian's end too. `service`, if there is one, is called before the duty with the guardian's end of a socket
  /// of whole packets, and returns when the other end is closed.
  static Result<Guardian> start(const std::function<void()>& duty, int keep = -1,
                                const std::function<void(int socket)>& service = {});
  Guardian(Guardian&& other) noexcept;
  Guardian& operator=(Guardian&&) = delete;
  ~Guardian();

  /// It does its work after this process's end, and nobody waits for that.
  void outlive();
  /// This process's end, where there is a service.
  int socket() const { return pipe_.get(); }

 private:
  Guardian(pid_t process, UniqueFd pipe) : process_(process), pipe_(std::move(pipe)) {}

  pid_t process_;
  UniqueFd pipe_;  ///< its end of file is this process's end; or the socket, likewise
};

}  // namespace doppel::cli
