#include "machine/pci_devices.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/system_error.h"
#include "devices/virtio/block.h"
#include "devices/virtio/entropy.h"
#include "devices/virtio/file_system.h"
#include "devices/virtio/network.h"
#include "devices/virtio/vsock.h"
#include "net/tap.h"
#include "net/user_network.h"
#include "storage/disk.h"
#include "storage/open.h"
#include "storage/qcow2/create.h"

namespace doppel::machine {

namespace virtio = devices::virtio;

namespace {

/// An overlay that is nobody's but this machine's: its file has no name, and goes with the process.
Result<std::unique_ptr<storage::Disk>> open_copy_on_write(const DiskConfig& disk) {
  storage::OpenOptions base_options;
  base_options.format = disk.options.format;
  Result<std::shared_ptr<storage::Image>> base = storage::open_image(disk.path, base_options);
  if (!base) return base.error();
  std::string path = (std::filesystem::temp_directory_path() / "doppel-overlay-XXXXXX").string();
  const UniqueFd reserved(::mkostemp(path.data(), O_CLOEXEC));
  if (!reserved.valid()) return system_error("cannot create a file for what the guest writes in " + path);
  Result<std::unique_ptr<storage::HostFile>> file = storage::HostFile::open(path, {.kept = false});
  ::unlink(path.c_str());
  if (!file) return file.error();
  storage::qcow2::CreateOptions overlay;
  overlay.size = (*base)->size();
  std::error_code ignored;
  overlay.backing_file = std::filesystem::absolute(disk.path, ignored).string();
  Result<std::shared_ptr<storage::qcow2::Qcow2Image>> image =
      storage::qcow2::create(*std::move(file), overlay, *std::move(base));
  if (!image) return image.error();
  return storage::make_disk(*std::move(image), disk.options);
}

}  // namespace

std::array<std::uint8_t, 6> random_mac() {
  std::array<std::uint8_t, 6> mac{};
  [[maybe_unused]] const ssize_t got = ::getrandom(mac.data(), mac.size(), 0);
  mac[0] = static_cast<std::uint8_t>((mac[0] & 0xFC) | 0x02);
  return mac;
}

Result<void> PciDevices::create(const MachineConfig& config, memory::GuestMemory& memory) {
  all_.push_back(std::make_unique<virtio::Entropy>("entropy", memory));
  if (config.balloon) {
    auto balloon = std::make_unique<virtio::Balloon>("balloon", memory);
    balloon_ = balloon.get();
    all_.push_back(std::move(balloon));
  }
  if (Result<void> added = add_networks(config, memory); !added) return added;
  if (Result<void> added = add_vsock(config, memory); !added) return added;
  if (config.virtio_console) {
    auto console = std::make_unique<virtio::Console>("console", memory);
    console_ = console.get();
    all_.push_back(std::move(console));
  }
  if (Result<void> added = add_disks(config, memory); !added) return added;
  for (const ShareConfig& share : config.shares) {
    all_.push_back(std::make_unique<virtio::FileSystem>(
        share.tag, share.tag,
        share::FileServer::Config{.directory = std::move(*share.directory), .read_only = share.read_only}, memory));
  }
  return {};
}

Result<net::Reactor*> PciDevices::reactor() {
  if (reactor_ == nullptr) {
    Result<std::unique_ptr<net::Reactor>> made = net::Reactor::create();
    if (!made) return made.error();
    reactor_ = *std::move(made);
  }
  return reactor_.get();
}

Result<void> PciDevices::add_vsock(const MachineConfig& config, memory::GuestMemory& memory) {
  if (config.vsock_listener == nullptr) return {};
  const Result<net::Reactor*> shared = reactor();
  if (!shared) return shared.error();
  all_.push_back(std::make_unique<virtio::Vsock>(
      virtio::Vsock::Config{
          .name = "vsock", .listener = std::move(*config.vsock_listener), .connect = config.vsock_connect},
      **shared, memory));
  return {};
}

Result<void> PciDevices::add_networks(const MachineConfig& config, memory::GuestMemory& memory) {
  unsigned number = 0;
  for (const NetworkConfig& network : config.networks) {
    const Result<net::Reactor*> shared = reactor();
    if (!shared) return shared.error();
    std::unique_ptr<net::Backend> backend;
    if (network.kind == NetworkConfig::Kind::Tap) {
      backend = std::make_unique<net::Tap>(std::move(*network.tap), *reactor_);
    } else {
      Result<std::unique_ptr<net::UserNetwork>> user = net::UserNetwork::create(network.user, *reactor_);
      if (!user) return user.error();
      backend = *std::move(user);
    }
    all_.push_back(std::make_unique<virtio::Network>(fmt::format("net{}", number++), network.mac.value(),
                                                     std::move(backend), memory));
  }
  return {};
}

Result<void> PciDevices::add_disks(const MachineConfig& config, memory::GuestMemory& memory) {
  unsigned number = 0;
  for (const DiskConfig& disk : config.disks) {
    Result<std::unique_ptr<storage::Disk>> opened =
        disk.snapshot ? open_copy_on_write(disk) : storage::open_disk(disk.path, disk.options);
    if (!opened) return opened.error();
    disks_.push_back(opened->get());
    const std::string name = fmt::format("disk{}", number++);
    all_.push_back(
        std::make_unique<virtio::Block>(virtio::Block::Config{.name = name,
                                                              .serial = disk.serial.empty() ? name : disk.serial,
                                                              .queues = static_cast<std::uint16_t>(config.cpus)},
                                        *std::move(opened), memory));
  }
  return {};
}

}  // namespace doppel::machine
