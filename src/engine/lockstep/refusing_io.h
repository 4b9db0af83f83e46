#pragma once

#include "x86/cpu_io.h"

namespace doppel::engine::lockstep {

/// Thrown where an instruction would reach out of the processor, which must happen once only.
struct Unrepeatable {};

/// The platform of a processor that only tries things out.
class RefusingIo : public x86::CpuIo {
 public:
  std::uint32_t port_in(std::uint16_t, unsigned) override { throw Unrepeatable{}; }
  void port_out(std::uint16_t, unsigned, std::uint32_t) override { throw Unrepeatable{}; }
  std::uint64_t mmio_read(std::uint64_t, unsigned) override { throw Unrepeatable{}; }
  void mmio_write(std::uint64_t, unsigned, std::uint64_t) override { throw Unrepeatable{}; }
  bool interrupt_pending() override { return false; }
  std::uint8_t acknowledge_interrupt() override { throw Unrepeatable{}; }
  std::uint8_t cr8() override { throw Unrepeatable{}; }
  void set_cr8(std::uint8_t) override { throw Unrepeatable{}; }
  bool read_apic_msr(std::uint32_t, std::uint64_t&) override { throw Unrepeatable{}; }
  bool write_apic_msr(std::uint32_t, std::uint64_t) override { throw Unrepeatable{}; }
  void tsc_offset_changed(std::uint64_t) override { throw Unrepeatable{}; }
  void reset_local_apic() override { throw Unrepeatable{}; }
  void set_ferr(bool) override { throw Unrepeatable{}; }
  std::int64_t wall_clock_base() override { throw Unrepeatable{}; }
  unsigned apic_id() const override { return 0; }
};

}  // namespace doppel::engine::lockstep
