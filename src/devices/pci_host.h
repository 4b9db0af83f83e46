#pragma once

#include <cstdint>
#include <string_view>

#include "bus/device.h"
#include "bus/io_bus.h"
#include "devices/member_handler.h"

namespace doppel::devices {

/// A PCI bus with nothing on it but its host bridge, 00:00.0, which calls itself a Q35's (PCI local bus specification
/// 3.0, 3.2.2.3: configuration mechanism #1).
class PciHost : public bus::Device {
 public:
  /// `reset_control` answers for port CF9h, which lies among those of CONFIG_ADDRESS: byte accesses only. It is called
  /// with this device's lock.
  explicit PciHost(bus::IoHandler& reset_control) : reset_control_(reset_control) {}

  std::string_view name() const override { return "pci_host"; }
  void reset(bus::ResetKind) override { config_address_ = 0; }
  void describe(state::Visitor& v) override { v.field(1, "config_address", config_address_); }

  bus::IoHandler& address_ports() { return address_; }  ///< CF8h, 4 ports
  bus::IoHandler& data_ports() { return data_; }        ///< CFCh, 4 ports

 private:
  std::uint64_t read_address(std::uint64_t offset, unsigned size);
  void write_address(std::uint64_t offset, unsigned size, std::uint64_t value);
  std::uint64_t read_data(std::uint64_t offset, unsigned size);
  void write_data(std::uint64_t, unsigned, std::uint64_t) {}  // nothing of the bridge can be changed

  bus::IoHandler& reset_control_;
  std::uint32_t config_address_ = 0;
  MemberHandler<PciHost> address_{*this, &PciHost::read_address, &PciHost::write_address};
  MemberHandler<PciHost> data_{*this, &PciHost::read_data, &PciHost::write_data};
};

}  // namespace doppel::devices
