#pragma once

#include <cstdint>

namespace doppel::x86 {

/// All that a processor may ask of the platform around it. Implemented by the machine, one per vCPU; called by the
/// vCPU's thread only.
class CpuIo {
 public:
  virtual ~CpuIo() = default;

  // I/O ports; `size` is 1, 2 or 4. Unclaimed ports read as all ones.
  virtual std::uint32_t port_in(std::uint16_t port, unsigned size) = 0;
  virtual void port_out(std::uint16_t port, unsigned size, std::uint32_t value) = 0;

  // Physical addresses that are not RAM, this vCPU's own local APIC page included; `size` is 1, 2, 4 or 8.
  virtual std::uint64_t mmio_read(std::uint64_t address, unsigned size) = 0;
  virtual void mmio_write(std::uint64_t address, unsigned size, std::uint64_t value) = 0;

  // The local APIC's processor side (SDM vol. 3, ch. 10).
  /// A maskable interrupt, from the local APIC or as ExtINT from the PIC, waits and its priority beats the TPR.
  virtual bool interrupt_pending() = 0;
  /// Takes it: the vector, now in service. May be the spurious vector. Only after interrupt_pending().
  virtual std::uint8_t acknowledge_interrupt() = 0;
  virtual std::uint8_t cr8() = 0;
  virtual void set_cr8(std::uint8_t value) = 0;
  /// IA32_APIC_BASE, IA32_TSC_DEADLINE and the x2APIC range 800h–8FFh. False: #GP.
  virtual bool read_apic_msr(std::uint32_t msr, std::uint64_t& value) = 0;
  virtual bool write_apic_msr(std::uint32_t msr, std::uint64_t value) = 0;
  /// The guest moved its TSC (IA32_TIME_STAMP_COUNTER, IA32_TSC_ADJUST): CpuState::tsc_offset is now this, and TSC
  /// deadlines follow.
  virtual void tsc_offset_changed(std::uint64_t offset) = 0;
  /// INIT reached this processor: the local APIC takes its INIT state.
  virtual void reset_local_apic() = 0;

  /// FERR# of the x87 unit when CR0.NE is clear: IRQ 13.
  virtual void set_ferr(bool high) = 0;

  /// Wall-clock time as nanoseconds since the epoch at VM time 0, for kvmclock.
  virtual std::int64_t wall_clock_base() = 0;
  /// The initial APIC ID, which CPUID reports.
  virtual unsigned apic_id() const = 0;
};

}  // namespace doppel::x86
