#include "machine/vcpu_io.h"

namespace doppel::machine {

std::uint32_t VcpuIo::port_in(std::uint16_t port, unsigned size) {
  return static_cast<std::uint32_t>(ports_.read(port, size));
}

void VcpuIo::port_out(std::uint16_t port, unsigned size, std::uint32_t value) {
  ports_.write(port, size, value);
}

std::uint64_t VcpuIo::mmio_read(std::uint64_t address, unsigned size) {
  if (apic_.maps(address)) return apic_.read(address & (irq::LocalApic::kPageSize - 1), size);
  return mmio_.read(address, size);
}

void VcpuIo::mmio_write(std::uint64_t address, unsigned size, std::uint64_t value) {
  if (apic_.maps(address)) {
    apic_.write(address & (irq::LocalApic::kPageSize - 1), size, static_cast<std::uint32_t>(value));
  } else {
    mmio_.write(address, size, value);
  }
}

}  // namespace doppel::machine
