#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"

/// Over a Unix socket of whole packets (SOCK_SEQPACKET) between two processes: text, with open files.
namespace doppel {

inline constexpr std::size_t kMaxPacket = 65536;
/// A machine's PCI bus has room for 31 devices, and a disk may come as two files.
inline constexpr std::size_t kMaxPacketFiles = 64;

struct Packet {
  std::string text;
  std::vector<UniqueFd> files;
};

/// Text beyond kMaxPacket is cut off; the files stay the caller's. False when the other side is gone.
bool send_packet(int socket, const std::string& text, std::span<const int> files = {});
/// Waits for the next one; nothing when the other side is gone.
std::optional<Packet> receive_packet(int socket);

}  // namespace doppel
