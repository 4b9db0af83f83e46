#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/console.h"
#include "devices/virtio/device.h"
#include "machine/config.h"
#include "memory/guest_memory.h"
#include "net/reactor.h"
#include "storage/disk.h"

namespace doppel::machine {

/// A locally administered address of one station (IEEE 802, 8.2).
std::array<std::uint8_t, 6> random_mac();

/// The virtio devices of a machine, made as its configuration says, in the order of their slots.
class PciDevices {
 public:
  /// The error is an image that cannot be opened, a network that cannot be joined.
  Result<void> create(const MachineConfig& config, memory::GuestMemory& memory);

  const std::vector<std::unique_ptr<devices::virtio::Device>>& all() const { return all_; }
  /// nullptr when there is none.
  devices::virtio::Balloon* balloon() const { return balloon_; }
  devices::virtio::Console* console() const { return console_; }
  /// As configured.
  const std::vector<storage::Disk*>& disks() const { return disks_; }

 private:
  /// The machine's one, made when it is first asked for.
  Result<net::Reactor*> reactor();
  Result<void> add_networks(const MachineConfig& config, memory::GuestMemory& memory);
  Result<void> add_vsock(const MachineConfig& config, memory::GuestMemory& memory);
  Result<void> add_disks(const MachineConfig& config, memory::GuestMemory& memory);

  std::unique_ptr<net::Reactor> reactor_;  ///< where a device needs one
  std::vector<std::unique_ptr<devices::virtio::Device>> all_;
  devices::virtio::Balloon* balloon_ = nullptr;
  devices::virtio::Console* console_ = nullptr;
  std::vector<storage::Disk*> disks_;
};

}  // namespace doppel::machine
