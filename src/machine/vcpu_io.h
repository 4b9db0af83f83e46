#pragma once

#include <cstdint>

#include "bus/io_bus.h"
#include "irq/line.h"
#include "irq/local_apic.h"
#include "x86/cpu_io.h"

namespace doppel::machine {

/// A processor's view of the platform: its own local APIC, and the buses that all share. Refers to what it is given.
class VcpuIo : public x86::CpuIo {
 public:
  VcpuIo(irq::LocalApic& apic, bus::IoBus& ports, bus::IoBus& mmio, const std::int64_t& wall_clock_base,
         irq::IrqLine ferr)
      : apic_(apic), ports_(ports), mmio_(mmio), wall_clock_base_(wall_clock_base), ferr_(ferr) {}

  std::uint32_t port_in(std::uint16_t port, unsigned size) override;
  void port_out(std::uint16_t port, unsigned size, std::uint32_t value) override;
  std::uint64_t mmio_read(std::uint64_t address, unsigned size) override;
  void mmio_write(std::uint64_t address, unsigned size, std::uint64_t value) override;

  bool interrupt_pending() override { return apic_.pending(); }
  std::uint8_t acknowledge_interrupt() override { return apic_.acknowledge(); }
  std::uint8_t cr8() override { return apic_.cr8(); }
  void set_cr8(std::uint8_t value) override { apic_.set_cr8(value); }
  bool read_apic_msr(std::uint32_t msr, std::uint64_t& value) override { return apic_.read_msr(msr, value); }
  bool write_apic_msr(std::uint32_t msr, std::uint64_t value) override { return apic_.write_msr(msr, value); }
  void tsc_offset_changed(std::uint64_t offset) override { apic_.set_tsc_offset(static_cast<std::int64_t>(offset)); }
  void reset_local_apic() override { apic_.init(); }
  void set_ferr(bool high) override { ferr_.set(high); }
  std::int64_t wall_clock_base() override { return wall_clock_base_; }
  unsigned apic_id() const override { return apic_.initial_apic_id(); }

 private:
  irq::LocalApic& apic_;
  bus::IoBus& ports_;
  bus::IoBus& mmio_;
  const std::int64_t& wall_clock_base_;
  const irq::IrqLine ferr_;
};

}  // namespace doppel::machine
