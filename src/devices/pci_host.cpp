#include "devices/pci_host.h"

#include "base/bits.h"

namespace doppel::devices {
namespace {

constexpr std::uint32_t kEnable = 0x8000'0000, kAddressWritable = 0x80FF'FFFC;
constexpr std::uint64_t kResetControlOffset = 1;
constexpr std::uint16_t kIntel = 0x8086, kQ35DramController = 0x29C0;
constexpr std::uint32_t kHostBridgeClass = 0x06'0000;

/// CONFIG_ADDRESS has 8 bits for the register where ECAM has 12.
std::uint32_t ecam_address(std::uint32_t config_address) {
  return static_cast<std::uint32_t>(bits(config_address, 23, 8) << 12 | (config_address & 0xFC));
}

}  // namespace

PciHostBridge::PciHostBridge()
    : PciFunction({.vendor_id = kIntel, .device_id = kQ35DramController, .class_code = kHostBridgeClass}) {}

void PciHost::describe(state::Visitor& v) {
  std::uint32_t config_address = config_address_;
  v.field(1, "config_address", config_address);
  config_address_ = config_address;
}

std::uint64_t PciHost::read_address(std::uint64_t offset, unsigned size) {
  if (offset == 0 && size == 4) return config_address_;
  if (offset == kResetControlOffset && size == 1) return reset_control_.read(0, 1);
  return low_mask(size * 8);
}

void PciHost::write_address(std::uint64_t offset, unsigned size, std::uint64_t value) {
  if (offset == 0 && size == 4) config_address_ = static_cast<std::uint32_t>(value) & kAddressWritable;
  if (offset == kResetControlOffset && size == 1) reset_control_.write(0, 1, value);
}

std::uint64_t PciHost::read_data(std::uint64_t offset, unsigned size) {
  const std::uint32_t address = config_address_;
  if ((address & kEnable) == 0) return low_mask(size * 8);
  return pci_.config_read(ecam_address(address) + static_cast<std::uint32_t>(offset), size);
}

void PciHost::write_data(std::uint64_t offset, unsigned size, std::uint64_t value) {
  const std::uint32_t address = config_address_;
  if ((address & kEnable) == 0) return;
  pci_.config_write(ecam_address(address) + static_cast<std::uint32_t>(offset), size,
                    static_cast<std::uint32_t>(value));
}

}  // namespace doppel::devices
