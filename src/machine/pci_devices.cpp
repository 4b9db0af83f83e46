#include "machine/pci_devices.h"

#include <fmt/format.h>
#include <sys/random.h>

#include "devices/virtio/block.h"
#include "devices/virtio/entropy.h"
#include "devices/virtio/network.h"
#include "net/tap.h"
#include "net/user_network.h"

namespace doppel::machine {

namespace virtio = devices::virtio;

namespace {

/// Locally administered, of one station (IEEE 802, 8.2).
virtio::MacAddress random_mac() {
  virtio::MacAddress mac{};
  [[maybe_unused]] const ssize_t got = ::getrandom(mac.data(), mac.size(), 0);
  mac[0] = static_cast<std::uint8_t>((mac[0] & 0xFC) | 0x02);
  return mac;
}

}  // namespace

Result<void> PciDevices::create(const MachineConfig& config, memory::GuestMemory& memory) {
  all_.push_back(std::make_unique<virtio::Entropy>("entropy", memory));
  if (Result<void> added = add_networks(config, memory); !added) return added;
  return add_disks(config, memory);
}

Result<void> PciDevices::add_networks(const MachineConfig& config, memory::GuestMemory& memory) {
  unsigned number = 0;
  for (const NetworkConfig& network : config.networks) {
    if (reactor_ == nullptr) {
      Result<std::unique_ptr<net::Reactor>> reactor = net::Reactor::create();
      if (!reactor) return reactor.error();
      reactor_ = *std::move(reactor);
    }
    std::unique_ptr<net::Backend> backend;
    if (network.kind == NetworkConfig::Kind::Tap) {
      Result<std::unique_ptr<net::Tap>> tap = net::Tap::open(network.interface, *reactor_);
      if (!tap) return tap.error();
      backend = *std::move(tap);
    } else {
      Result<std::unique_ptr<net::UserNetwork>> user = net::UserNetwork::create(network.user, *reactor_);
      if (!user) return user.error();
      backend = *std::move(user);
    }
    all_.push_back(std::make_unique<virtio::Network>(fmt::format("net{}", number++), network.mac.value_or(random_mac()),
                                                     std::move(backend), memory));
  }
  return {};
}

Result<void> PciDevices::add_disks(const MachineConfig& config, memory::GuestMemory& memory) {
  unsigned number = 0;
  for (const DiskConfig& disk : config.disks) {
    Result<std::unique_ptr<storage::BlockDevice>> opened = storage::open_disk(disk.path, disk.options);
    if (!opened) return opened.error();
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
