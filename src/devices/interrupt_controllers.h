#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "bus/device.h"
#include "devices/byte_registers.h"
#include "devices/member_handler.h"
#include "irq/io_apic.h"
#include "irq/local_apic.h"
#include "irq/pic.h"

/// The interrupt controllers as devices on the buses. The chips themselves are in irq/ and know of no bus; they lock
/// themselves, so their ranges may be mapped without the device's lock.
namespace doppel::devices {

class PicDevice : public bus::Device {
 public:
  std::string_view name() const override { return "pic"; }
  void reset(bus::ResetKind) override { chip_.reset(); }
  void describe(state::Visitor& v) override { chip_.describe(v); }

  irq::Pic& chip() { return chip_; }
  bus::IoHandler& master_ports() { return master_; }  ///< 20h, 2 ports
  bus::IoHandler& slave_ports() { return slave_; }    ///< A0h, 2 ports
  bus::IoHandler& elcr_ports() { return elcr_; }      ///< 4D0h, 2 ports

 private:
  std::uint8_t read_master(std::uint64_t offset) { return chip_.read(irq::Pic::kMaster, offset & 1); }
  void write_master(std::uint64_t offset, std::uint8_t value) { chip_.write(irq::Pic::kMaster, offset & 1, value); }
  std::uint8_t read_slave(std::uint64_t offset) { return chip_.read(irq::Pic::kSlave, offset & 1); }
  void write_slave(std::uint64_t offset, std::uint8_t value) { chip_.write(irq::Pic::kSlave, offset & 1, value); }
  std::uint8_t read_elcr(std::uint64_t offset) { return chip_.elcr(static_cast<irq::Pic::Chip>(offset & 1)); }
  void write_elcr(std::uint64_t offset, std::uint8_t value) {
    chip_.set_elcr(static_cast<irq::Pic::Chip>(offset & 1), value);
  }

  irq::Pic chip_;
  MemberRegisters<PicDevice> master_{*this, &PicDevice::read_master, &PicDevice::write_master};
  MemberRegisters<PicDevice> slave_{*this, &PicDevice::read_slave, &PicDevice::write_slave};
  MemberRegisters<PicDevice> elcr_{*this, &PicDevice::read_elcr, &PicDevice::write_elcr};
};

/// Maps irq::IoApic::kPageSize bytes of MMIO.
class IoApicDevice : public bus::Device, public bus::IoHandler {
 public:
  explicit IoApicDevice(irq::MessageSink& bus) : chip_(bus) {}

  std::string_view name() const override { return "ioapic"; }
  void reset(bus::ResetKind) override { chip_.reset(); }
  void describe(state::Visitor& v) override { chip_.describe(v); }
  std::uint64_t read(std::uint64_t offset, unsigned) override { return chip_.read(offset); }
  void write(std::uint64_t offset, unsigned, std::uint64_t value) override {
    chip_.write(offset, static_cast<std::uint32_t>(value));
  }

  irq::IoApic& chip() { return chip_; }

 private:
  irq::IoApic chip_;
};

/// Only reset and state: its registers are reached by the vCPU that owns it, not over a bus.
class LocalApicDevice : public bus::Device {
 public:
  LocalApicDevice(const irq::LocalApic::Config& config, irq::ApicBus& bus, const time::VmClock& clock,
                  time::TimerQueue& timers)
      : name_("lapic" + std::to_string(config.apic_id)), chip_(config, bus, clock, timers) {}

  std::string_view name() const override { return name_; }
  void reset(bus::ResetKind) override { chip_.reset(); }
  void describe(state::Visitor& v) override { chip_.describe(v); }

  irq::LocalApic& chip() { return chip_; }

 private:
  std::string name_;
  irq::LocalApic chip_;
};

}  // namespace doppel::devices
