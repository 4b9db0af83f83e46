#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "engine/engine.h"
#include "machine/saved_machine.h"
#include "net/tap.h"
#include "net/user_network.h"
#include "storage/disk.h"

namespace doppel::machine {

/// Which engine executes the guest. Auto takes the fastest that works here.
enum class EngineKind : std::uint8_t { Auto, Translator, Interpreter, Lockstep };

inline constexpr unsigned kMaxCpus = 16;
inline constexpr std::uint64_t kMinMemory = std::uint64_t{64} << 20;

/// A file for the guest, already read: `path` is for messages only.
struct BootFile {
  std::string path;
  std::vector<std::byte> bytes;
  std::string arguments;  ///< of a Multiboot module
};

/// A disk image for the guest: a virtio block device.
struct DiskConfig {
  std::string path;
  std::string serial;  ///< at most 20 characters; empty: "disk0" and so on
  storage::DiskOptions options;
  bool snapshot = false;           ///< the image is not written: changes go to a file that ends with the machine
  std::shared_ptr<UniqueFd> file;  ///< what `path` names, if that is a descriptor of ours
};

/// A network card and what it is plugged into.
struct NetworkConfig {
  enum class Kind : std::uint8_t { User, Tap } kind = Kind::User;
  net::UserNetworkConfig user;
  std::shared_ptr<net::TapInterface> tap;          ///< of Kind::Tap
  std::string interface {};                        ///< its name
  std::optional<std::array<std::uint8_t, 6>> mac;  ///< random if not given, from Machine::create on
};

/// A directory of the host for the guest: a virtio file system.
struct ShareConfig {
  std::string tag;  ///< by which the guest mounts it
  std::string path{};
  std::string guest_path{};
  bool read_only = false;
  std::shared_ptr<UniqueFd> directory{};  ///< opened for the machine to take over
};

/// Everything that makes one machine differ from another. Plain data; Machine::create checks it.
struct MachineConfig {
  std::string name;
  std::uint64_t memory_bytes = std::uint64_t{1} << 30;
  unsigned cpus = 1;
  EngineKind engine = EngineKind::Auto;
  engine::TranslatorOptions translator;
  engine::LockstepOptions lockstep;  ///< of EngineKind::Lockstep, which takes one processor

  BootFile kernel;
  std::vector<BootFile> initrds;  ///< concatenated in memory, as Linux unpacks them
  std::vector<BootFile> modules;  ///< Multiboot only
  std::string command_line;

  std::vector<DiskConfig> disks;
  std::vector<NetworkConfig> networks;
  std::vector<ShareConfig> shares;
  bool balloon = false;
  bool virtio_console = false;  ///< beside the serial ports
  /// The listening Unix socket that leads to the guest's vsock ports; none: no vsock device.
  std::shared_ptr<UniqueFd> vsock_listener;
  /// Opens the host's end of a connection that the guest asks for; empty: there are none.
  std::function<UniqueFd(std::uint32_t port)> vsock_connect;

  /// A guest's reboot ends the machine instead (Outcome::Reset).
  bool no_reboot = false;

  /// What the machine goes on from, which the rest of this must fit; none: it boots the kernel.
  std::shared_ptr<const SavedMachine> saved;
};

}  // namespace doppel::machine
