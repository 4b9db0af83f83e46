#include "bus/pci_bus.h"

#include "base/bits.h"

namespace doppel::bus {

void PciBus::attach(PciFunction& function, unsigned slot) {
  slots_[slot] = &function;
  function.connect(*this, slot);
  for (unsigned i = 0; i < PciFunction::kBars; ++i) {
    const PciFunction::Bar& bar = function.bars()[i];
    if (bar.kind != PciFunction::BarKind::None) {
      regions_.push_back({&function, i, bar.kind == PciFunction::BarKind::Io, bar.size});
    }
  }
}

PciFunction* PciBus::function_at(std::uint32_t address) const {
  const bool first_function_of_bus_0 = (address >> 20) == 0 && bits(address, 14, 12) == 0;
  return first_function_of_bus_0 ? slots_[bits(address, 19, 15)] : nullptr;
}

std::uint32_t PciBus::config_read(std::uint32_t address, unsigned size) {
  PciFunction* const function = function_at(address);
  if (function == nullptr) return static_cast<std::uint32_t>(low_mask(8 * size));
  const auto offset = static_cast<unsigned>(address & 0xFFF);
  // No extended capabilities: the header of the first is zero.
  return offset + size <= PciFunction::kConfigBytes ? function->config_read(offset, size) : 0;
}

void PciBus::config_write(std::uint32_t address, unsigned size, std::uint32_t value) {
  PciFunction* const function = function_at(address);
  const auto offset = static_cast<unsigned>(address & 0xFFF);
  if (function != nullptr && offset + size <= PciFunction::kConfigBytes) function->config_write(offset, size, value);
}

void PciBus::assign_resources(const Windows& windows) {
  std::uint64_t memory = windows.memory_start;
  std::uint64_t io = windows.io_start;
  for (const Region& region : regions_) {
    std::uint64_t& next = region.is_io ? io : memory;
    const std::uint64_t address = align_up(next, region.size);
    if (address + region.size > (region.is_io ? windows.io_end : windows.memory_end)) continue;
    region.function->assign_bar(region.bar, address);
    next = address + region.size;
  }
  for (PciFunction* function : slots_) {
    if (function != nullptr) {
      function->assign_interrupt_line(static_cast<std::uint8_t>(windows.first_gsi + function->slot() % kLines));
    }
  }
}

void PciBus::set_intx(unsigned slot, bool asserted) {
  const unsigned line = slot % kLines;
  const std::lock_guard guard(intx_mutex_);
  std::uint32_t& drivers = asserted_[line];
  const bool was_high = drivers != 0;
  drivers = asserted ? drivers | 1u << slot : drivers & ~(1u << slot);
  if ((drivers != 0) != was_high) lines_.intx(line, drivers != 0);
}

const PciBus::Region* PciBus::find(std::uint64_t address, unsigned size, bool is_io, std::uint64_t& offset) const {
  for (const Region& region : regions_) {
    const std::uint64_t base = region.function->bar_base(region.bar);
    offset = address - base;
    if (base != PciFunction::kUnmapped && offset < region.size && size <= region.size - offset &&
        region.is_io == is_io) {
      return &region;
    }
  }
  return nullptr;
}

std::uint64_t PciBus::Window::read(std::uint64_t offset, unsigned size) {
  std::uint64_t in_bar = 0;
  const Region* const region = bus_.find(base_ + offset, size, is_io_, in_bar);
  return region != nullptr ? region->function->bar_read(region->bar, in_bar, size) : low_mask(8 * size);
}

void PciBus::Window::write(std::uint64_t offset, unsigned size, std::uint64_t value) {
  std::uint64_t in_bar = 0;
  const Region* const region = bus_.find(base_ + offset, size, is_io_, in_bar);
  if (region != nullptr) region->function->bar_write(region->bar, in_bar, size, value);
}

std::uint64_t PciBus::Ecam::read(std::uint64_t offset, unsigned size) {
  if (size == 8) return read(offset, 4) | read(offset + 4, 4) << 32;
  if (offset % size != 0) return low_mask(8 * size);
  return bus_.config_read(static_cast<std::uint32_t>(offset), size);
}

void PciBus::Ecam::write(std::uint64_t offset, unsigned size, std::uint64_t value) {
  if (size == 8) {
    write(offset, 4, value & 0xFFFF'FFFF);
    write(offset + 4, 4, value >> 32);
  } else if (offset % size == 0) {
    bus_.config_write(static_cast<std::uint32_t>(offset), size, static_cast<std::uint32_t>(value));
  }
}

}  // namespace doppel::bus
