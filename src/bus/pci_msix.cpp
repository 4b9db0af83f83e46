#include "bus/pci_msix.h"

#include <utility>

#include "base/bits.h"

namespace doppel::bus {

PciMsix::PciMsix(unsigned vectors, Send send) : table_(vectors), send_(std::move(send)) {}

void PciMsix::set_control(std::uint16_t control) {
  enabled_ = (control & kEnable) != 0;
  function_mask_ = (control & kFunctionMask) != 0;
  for (Entry& entry : table_) deliver_pending(entry);
}

void PciMsix::deliver_pending(Entry& entry) {
  if (!entry.pending || !enabled_ || masked(entry)) return;
  entry.pending = false;
  send_(entry.address, entry.data);
}

void PciMsix::trigger(unsigned vector) {
  if (!enabled_ || vector >= table_.size()) return;
  table_[vector].pending = true;
  deliver_pending(table_[vector]);
}

std::uint32_t PciMsix::dword(std::uint64_t offset) const {
  const std::uint64_t index = offset / kEntryBytes;
  if (index >= table_.size()) return 0;
  const Entry& entry = table_[index];
  switch (offset % kEntryBytes / 4) {
    case 0:
      return static_cast<std::uint32_t>(entry.address);
    case 1:
      return static_cast<std::uint32_t>(entry.address >> 32);
    case 2:
      return entry.data;
    default:
      return entry.vector_control;
  }
}

std::uint64_t PciMsix::read_table(std::uint64_t offset, unsigned size) const {
  if (offset % 4 != 0 || size < 4) return 0;
  return size == 4 ? dword(offset) : dword(offset) | std::uint64_t{dword(offset + 4)} << 32;
}

void PciMsix::write_table(std::uint64_t offset, unsigned size, std::uint64_t value) {
  if (offset % 4 != 0 || size < 4) return;
  const std::uint64_t index = offset / kEntryBytes;
  if (index >= table_.size()) return;
  Entry& entry = table_[index];
  const auto low = static_cast<std::uint32_t>(value);
  switch (offset % kEntryBytes / 4) {
    case 0:
      entry.address = (entry.address & ~low_mask(32)) | (low & ~3u);
      break;
    case 1:
      entry.address = (entry.address & low_mask(32)) | std::uint64_t{low} << 32;
      break;
    case 2:
      entry.data = low;
      break;
    default:
      entry.vector_control = low & 1;
      deliver_pending(entry);
      break;
  }
  if (size == 8) write_table(offset + 4, 4, value >> 32);
}

std::uint64_t PciMsix::read_pending(std::uint64_t offset, unsigned size) const {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < 8 * size; ++i) {
    const std::uint64_t index = 8 * offset + i;
    if (index < table_.size() && table_[index].pending) value |= std::uint64_t{1} << i;
  }
  return value;
}

void PciMsix::reset() {
  for (Entry& entry : table_) entry = {};
  enabled_ = false;
  function_mask_ = false;
}

void PciMsix::describe(state::Visitor& v) {
  std::vector<std::byte> bytes(table_.size() * (kEntryBytes + 1));
  for (std::size_t i = 0; i < table_.size(); ++i) {
    std::byte* const entry = bytes.data() + i * (kEntryBytes + 1);
    store_le(entry, table_[i].address);
    store_le(entry + 8, table_[i].data);
    store_le(entry + 12, table_[i].vector_control);
    entry[kEntryBytes] = std::byte{table_[i].pending};
  }
  v.field(1, "enabled", enabled_);
  v.field(2, "function_mask", function_mask_);
  v.field(3, "table", std::span<std::byte>(bytes));
  if (!v.is_loading()) return;
  for (std::size_t i = 0; i < table_.size(); ++i) {
    const std::byte* const entry = bytes.data() + i * (kEntryBytes + 1);
    table_[i].address = load_le<std::uint64_t>(entry) & ~std::uint64_t{3};
    table_[i].data = load_le<std::uint32_t>(entry + 8);
    table_[i].vector_control = load_le<std::uint32_t>(entry + 12) & 1;
    table_[i].pending = entry[kEntryBytes] != std::byte{0};
  }
}

}  // namespace doppel::bus
