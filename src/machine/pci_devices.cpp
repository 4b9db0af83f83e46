#include "machine/pci_devices.h"

#include <fmt/format.h>

#include "devices/virtio/block.h"
#include "devices/virtio/entropy.h"

namespace doppel::machine {

namespace virtio = devices::virtio;

Result<void> PciDevices::create(const MachineConfig& config, memory::GuestMemory& memory) {
  all_.push_back(std::make_unique<virtio::Entropy>("entropy", memory));
  return add_disks(config, memory);
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
