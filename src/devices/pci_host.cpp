#include "devices/pci_host.h"

#include "base/bits.h"

namespace doppel::devices {
namespace {

constexpr std::uint32_t kEnable = 0x8000'0000, kAddressWritable = 0x80FF'FFFC;
constexpr std::uint64_t kResetControlOffset = 1;

/// A doubleword of the host bridge's configuration header.
constexpr std::uint32_t host_bridge_register(std::uint32_t offset) {
  switch (offset) {
    case 0x00:
      return 0x29C0'8086;  // 82G33/Q35 DRAM controller
    case 0x04:
      return 0x0000'0006;  // bus master, memory space
    case 0x08:
      return 0x0600'0000;  // host bridge
    default:
      return 0;
  }
}

}  // namespace

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
  const std::uint64_t function = bits(config_address_, 23, 8);
  if ((config_address_ & kEnable) == 0 || function != 0) return low_mask(size * 8);
  return (host_bridge_register(config_address_ & 0xFC) >> (8 * offset)) & low_mask(size * 8);
}

}  // namespace doppel::devices
