#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "bus/device.h"
#include "bus/io_bus.h"
#include "bus/pci_bus.h"
#include "devices/member_handler.h"

namespace doppel::devices {

/// The host bridge, 00:00.0, which calls itself a Q35's, as a function of its own bus: nothing in it can be changed.
class PciHostBridge : public bus::PciFunction {
 public:
  PciHostBridge();
  std::string_view name() const override { return "pci_host_bridge"; }
  std::uint64_t bar_read(unsigned, std::uint64_t, unsigned) override { return 0; }
  void bar_write(unsigned, std::uint64_t, unsigned, std::uint64_t) override {}
};

/// Configuration mechanism #1 (PCI local bus specification 3.0, 3.2.2.3): the ports by which a bus is configured.
///
/// The data ports may be mapped without a lock: functions lock themselves.
class PciHost : public bus::Device {
 public:
  /// `reset_control` answers for port CF9h, which lies among those of CONFIG_ADDRESS: byte accesses only. It is called
  /// with this device's lock.
  PciHost(bus::PciBus& pci, bus::IoHandler& reset_control) : pci_(pci), reset_control_(reset_control) {}

  std::string_view name() const override { return "pci_host"; }
  void reset(bus::ResetKind) override { config_address_ = 0; }
  void describe(state::Visitor& v) override;

  bus::IoHandler& address_ports() { return address_; }  ///< CF8h, 4 ports
  bus::IoHandler& data_ports() { return data_; }        ///< CFCh, 4 ports

 private:
  std::uint64_t read_address(std::uint64_t offset, unsigned size);
  void write_address(std::uint64_t offset, unsigned size, std::uint64_t value);
  std::uint64_t read_data(std::uint64_t offset, unsigned size);
  void write_data(std::uint64_t offset, unsigned size, std::uint64_t value);

  bus::PciBus& pci_;
  bus::IoHandler& reset_control_;
  std::atomic<std::uint32_t> config_address_ = 0;
  MemberHandler<PciHost> address_{*this, &PciHost::read_address, &PciHost::write_address};
  MemberHandler<PciHost> data_{*this, &PciHost::read_data, &PciHost::write_data};
};

}  // namespace doppel::devices
