#pragma once

#include <cstdint>
#include <optional>
#include <span>

/// The system calls of a running machine, by who needs them. What is not here fails with EPERM; those of kFatal, which
/// no code of ours ever makes, end the process.
namespace doppel::jail {

/// Which parts of a machine are there, as bits.
enum class Needs : std::uint8_t {
  Machine = 0,        ///< every machine: its processors' threads, memory, clock, console and control socket
  Debugger = 1 << 0,  ///< a gdb that comes over TCP
  Storage = 1 << 1,   ///< disks whose images are open files
  Network = 1 << 2,   ///< user-mode networking: sockets made for the guest's connections
  Reactor = 1 << 3,   ///< waiting for sockets that are open: vsock, tap
  Share = 1 << 4,     ///< files below directories that are open
};
constexpr Needs operator|(Needs a, Needs b) {
  return static_cast<Needs>(static_cast<std::uint8_t>(a) | static_cast<std::uint8_t>(b));
}

/// One system call, with what one of its arguments must be, where that matters.
struct Rule {
  /// (argument number `argument` & `mask`) == `value`
  struct Condition {
    unsigned argument;
    std::uint64_t mask;
    std::uint64_t value;
  };
  int system_call;
  std::optional<Condition> condition{};
};

struct Group {
  Needs needs;  ///< Machine: always
  std::span<const Rule> rules;
};

std::span<const Group> allow_list();
/// Those whose first argument must be this process's own number.
std::span<const int> allowed_on_this_process();
/// Answered with ENOSYS, so that the C library falls back to a form whose arguments can be looked at.
std::span<const int> unknown_calls();
/// What only an attacker would try.
std::span<const int> fatal_calls();

}  // namespace doppel::jail
