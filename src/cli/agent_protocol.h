#pragma once

#include <cstdint>

/// What `doppel exec` and the agent in the guest (guest/agent) say to each other over a vsock stream. Numbers are
/// little-endian. Included by both, so it needs nothing else.
///
/// A message is a kind, the length of its body in four bytes, and the body. The host begins with Start; the guest ends
/// with Exit or Failure and closes. Before Start there may be one Renew, which the guest answers by Exit.
namespace doppel::agent {

inline constexpr std::uint32_t kPort = 1024;
inline constexpr std::uint32_t kHeaderBytes = 5;
inline constexpr std::uint32_t kMaxBody = 64 * 1024;

enum class Kind : std::uint8_t {
  // From the host:
  Start = 'S',   ///< u8 terminal (0, 1), u16 rows, u16 columns, then strings with a NUL each: $TERM, the arguments
  Input = 'I',   ///< standard input; empty: its end
  Resize = 'W',  ///< u16 rows, u16 columns
  Signal = 'K',  ///< u8 number, for the command's process group
  /// The machine goes on from a snapshot: u64 nanoseconds since the epoch, 32 random bytes, then strings with a NUL
  /// each: a host name, or nothing for what is to stay the same machine, and the addresses of its network cards.
  /// Agents of old close the connection.
  Renew = 'R',
  // From the guest:
  Output = 'O',
  Errors = 'E',
  Exit = 'X',     ///< u32 status as a shell has it: 128 + signal
  Failure = 'F',  ///< the command could not be started: a text
};

inline constexpr std::uint32_t kStartFixedBytes = 5;
inline constexpr std::uint32_t kRandomBytes = 32;
inline constexpr std::uint32_t kRenewFixedBytes = 8 + kRandomBytes;

}  // namespace doppel::agent
