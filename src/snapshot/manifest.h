#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace doppel::snapshot {

/// What a snapshot says of itself: the machine that has to be built to go on from it, and the files that hold the rest.
/// Knows no engine: any may go on.
struct Manifest {
  struct Network {
    std::string kind;  ///< "user", "tap"
    bool restricted = false;
    std::array<std::uint8_t, 6> mac{};
    std::vector<std::string> published{};  ///< as in --net
    std::string interface {};              ///< of a tap
  };
  /// What a file was like that may not have changed since.
  struct FileMark {
    std::uint64_t bytes = 0;
    std::int64_t changed = 0;  ///< nanoseconds since the epoch; 0: nobody can tell
    bool operator==(const FileMark&) const = default;
  };
  struct Disk {
    std::string serial;
    bool read_only = false;
    bool discard = true;
    bool direct = false;   ///< past the host's page cache
    std::string file;      ///< the top layer, in the snapshot's directory (disk_chain.h); empty: the base itself
    std::string format;    ///< of the top layer, or the base: "raw", "qcow2"
    std::string base;      ///< a file of the user's that all stands on, absolute; empty: none
    FileMark base_mark{};  ///< of it
    std::string origin;    ///< the file that the user knows the disk by, if what the machine writes is kept
  };
  struct Share {
    std::string tag;
    std::string path;  ///< of the host's directory, absolute; empty: another host's, nobody knows which one
    std::string guest_path;
    bool read_only = false;
  };
  struct File {
    std::uint64_t bytes = 0;
    std::uint32_t checksum = 0;  ///< crc32c
  };

  std::string machine;  ///< its name
  std::string tag;
  std::string id;                        ///< random: tells a snapshot from an earlier one of the same name
  std::vector<std::string> ancestors{};  ///< tags, nearest first: what it was made after, now deleted or not
  std::int64_t created = 0;              ///< seconds since the epoch
  std::string version{};                 ///< of doppel

  unsigned cpus = 1;
  std::uint64_t memory_bytes = 0;
  bool balloon = false;
  bool vsock = false;
  bool console = false;  ///< a virtio console
  bool no_reboot = false;
  std::string kernel{};
  std::vector<std::string> initrds{};
  std::string command_line{};
  std::vector<Network> networks{};
  std::vector<Disk> disks{};
  std::vector<Share> shares{};

  File clock, components;
  /// The checksums of the pages of each layer of RAM, from the lowest on; the layers themselves have the size of RAM.
  std::vector<File> layers{};
  std::uint64_t stored_bytes = 0;  ///< of this snapshot's own layer
};

/// As text, with a checksum of itself.
std::string format_manifest(const Manifest& manifest);
/// The text is hostile.
Result<Manifest> parse_manifest(std::string_view text);

/// Disks alone, as text.
std::string format_disks(const std::vector<Manifest::Disk>& disks);
Result<std::vector<Manifest::Disk>> parse_disks(std::string_view text);

}  // namespace doppel::snapshot
