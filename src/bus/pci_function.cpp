#include "bus/pci_function.h"

#include <algorithm>

#include "base/bits.h"

namespace doppel::bus {
namespace {

using namespace pci_register;

constexpr std::uint16_t kWritableCommand = pci_command::kIoSpace | pci_command::kMemorySpace | pci_command::kBusMaster |
                                           pci_command::kParity | pci_command::kSerr | pci_command::kInterruptDisable;
constexpr std::uint16_t kStatusInterrupt = 1 << 3, kStatusCapabilities = 1 << 4;
constexpr std::uint32_t kBarIo = 1, kBar64Bit = 2 << 1, kBarPrefetchable = 1 << 3;

}  // namespace

PciFunction::PciFunction(const Identity& identity) {
  for (auto& base : bases_) base.store(kUnmapped, std::memory_order_relaxed);
  store_le(&initial_[kVendorId], identity.vendor_id);
  store_le(&initial_[kDeviceId], identity.device_id);
  initial_[kRevisionId] = identity.revision_id;
  initial_[kClassCode] = static_cast<std::uint8_t>(identity.class_code);
  initial_[kClassCode + 1] = static_cast<std::uint8_t>(identity.class_code >> 8);
  initial_[kClassCode + 2] = static_cast<std::uint8_t>(identity.class_code >> 16);
  store_le(&initial_[kSubsystemVendorId], identity.subsystem_vendor_id);
  store_le(&initial_[kSubsystemId], identity.subsystem_id);
  initial_[kInterruptPin] = identity.uses_intx ? 1 : 0;
  store_le(&writable_[kCommand], kWritableCommand);
  writable_[kCacheLineSize] = 0xFF;
  writable_[kInterruptLine] = 0xFF;
  config_ = initial_;
}

void PciFunction::connect(PciUpstream& upstream, unsigned slot) {
  upstream_ = &upstream;
  slot_ = slot;
}

void PciFunction::add_bar(unsigned index, const Bar& bar) {
  bars_[index] = bar;
  const unsigned offset = kBar0 + 4 * index;
  std::uint32_t type = 0;
  if (bar.kind == BarKind::Io) type = kBarIo;
  if (bar.kind == BarKind::Memory64) type = kBar64Bit;
  if (bar.prefetchable) type |= kBarPrefetchable;
  store_le(&initial_[offset], type);
  const std::uint64_t mask = ~(bar.size - 1);
  store_le(&writable_[offset], static_cast<std::uint32_t>(mask));
  if (bar.kind == BarKind::Memory64) store_le(&writable_[offset + 4], static_cast<std::uint32_t>(mask >> 32));
  config_ = initial_;
}

unsigned PciFunction::add_capability(std::uint8_t id, std::span<const std::uint8_t> body,
                                     std::span<const std::uint8_t> writable) {
  const unsigned offset = next_free_;
  next_free_ = static_cast<unsigned>(align_up(offset + 2 + body.size(), 4));
  initial_[last_capability_ == 0 ? kCapabilities : last_capability_ + 1] = static_cast<std::uint8_t>(offset);
  initial_[kStatus] |= static_cast<std::uint8_t>(kStatusCapabilities);
  last_capability_ = offset;
  initial_[offset] = id;
  std::copy(body.begin(), body.end(), initial_.begin() + offset + 2);
  std::copy(writable.begin(), writable.end(), writable_.begin() + offset + 2);
  config_ = initial_;
  return offset;
}

void PciFunction::before_config_read(unsigned, unsigned) {}
void PciFunction::after_config_write(unsigned, unsigned) {}

std::uint16_t PciFunction::config16(unsigned offset) const {
  return load_le<std::uint16_t>(&config_[offset]);
}
std::uint32_t PciFunction::config32(unsigned offset) const {
  return load_le<std::uint32_t>(&config_[offset]);
}
void PciFunction::set_config(unsigned offset, unsigned size, std::uint32_t value) {
  for (unsigned i = 0; i < size; ++i) config_[offset + i] = static_cast<std::uint8_t>(value >> (8 * i));
}

std::uint32_t PciFunction::config_read(unsigned offset, unsigned size) {
  const std::lock_guard guard(lock());
  before_config_read(offset, size);
  std::uint32_t value = 0;
  for (unsigned i = 0; i < size; ++i) value |= std::uint32_t{config_[offset + i]} << (8 * i);
  return value;
}

void PciFunction::config_write(unsigned offset, unsigned size, std::uint32_t value) {
  const std::lock_guard guard(lock());
  for (unsigned i = 0; i < size; ++i) {
    const std::uint8_t mask = writable_[offset + i];
    std::uint8_t& byte = config_[offset + i];
    byte = static_cast<std::uint8_t>((byte & ~mask) | (static_cast<std::uint8_t>(value >> (8 * i)) & mask));
  }
  const bool header = offset < kBar0 + 4 * kBars;
  if (header) {
    update_decoding();
    update_intx();
  }
  after_config_write(offset, size);
}

void PciFunction::update_decoding() {
  for (unsigned i = 0; i < kBars; ++i) {
    const Bar& bar = bars_[i];
    if (bar.kind == BarKind::None) continue;
    const unsigned offset = kBar0 + 4 * i;
    const bool is_io = bar.kind == BarKind::Io;
    std::uint64_t base = config32(offset) & (is_io ? ~std::uint32_t{3} : ~std::uint32_t{15});
    if (bar.kind == BarKind::Memory64) base |= std::uint64_t{config32(offset + 4)} << 32;
    const std::uint16_t enable = is_io ? pci_command::kIoSpace : pci_command::kMemorySpace;
    bases_[i].store((command() & enable) != 0 && base != 0 ? base : kUnmapped, std::memory_order_relaxed);
  }
}

void PciFunction::assign_bar(unsigned bar, std::uint64_t address) {
  const std::lock_guard guard(lock());
  const unsigned offset = kBar0 + 4 * bar;
  set_config(offset, 4, static_cast<std::uint32_t>(address) | load_le<std::uint32_t>(&initial_[offset]));
  if (bars_[bar].kind == BarKind::Memory64) set_config(offset + 4, 4, static_cast<std::uint32_t>(address >> 32));
  const bool is_io = bars_[bar].kind == BarKind::Io;
  set_config(kCommand, 2, command() | (is_io ? pci_command::kIoSpace : pci_command::kMemorySpace));
  update_decoding();
}

void PciFunction::assign_interrupt_line(std::uint8_t line) {
  const std::lock_guard guard(lock());
  set_config(kInterruptLine, 1, line);
}

void PciFunction::set_intx(bool asserted) {
  intx_ = asserted;
  update_intx();
}

void PciFunction::update_intx() {
  const std::uint32_t status = config16(kStatus);
  set_config(kStatus, 2, intx_ ? status | kStatusInterrupt : status & ~std::uint32_t{kStatusInterrupt});
  const bool drive = intx_ && (command() & pci_command::kInterruptDisable) == 0;
  if (drive == intx_driven_ || upstream_ == nullptr) return;
  intx_driven_ = drive;
  upstream_->set_intx(slot_, drive);
}

void PciFunction::send_message(std::uint64_t address, std::uint32_t data) {
  if (upstream_ != nullptr && (command() & pci_command::kBusMaster) != 0) upstream_->send_message(address, data);
}

void PciFunction::reset(ResetKind) {
  config_ = initial_;
  update_decoding();
  set_intx(false);
}

void PciFunction::describe(state::Visitor& v) {
  v.field(1, "config", std::as_writable_bytes(std::span{config_}));
  v.field(2, "intx", intx_);
  if (v.is_loading()) {
    // What software cannot write, a saved state cannot change either.
    for (unsigned i = 0; i < kConfigBytes; ++i) {
      config_[i] = static_cast<std::uint8_t>((initial_[i] & ~writable_[i]) | (config_[i] & writable_[i]));
    }
    if (intx_) config_[kStatus] |= static_cast<std::uint8_t>(kStatusInterrupt);
  }
  v.on_loaded([this] {
    update_decoding();
    update_intx();
  });
}

}  // namespace doppel::bus
