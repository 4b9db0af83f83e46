#include "bus/io_bus.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <limits>

#include "base/bits.h"

namespace doppel::bus {
namespace {

/// The lock of a range, where it has one, for one access.
std::unique_lock<std::mutex> hold(std::mutex* lock) {
  return lock != nullptr ? std::unique_lock(*lock) : std::unique_lock<std::mutex>();
}

bool contains(const IoBus::Range& range, std::uint64_t address, unsigned size) {
  return size <= range.length && address - range.base <= range.length - size;
}

}  // namespace

Result<void> IoBus::map(std::uint64_t base, std::uint64_t length, IoHandler& handler, std::mutex* lock,
                        std::string name) {
  if (length == 0 || length - 1 > std::numeric_limits<std::uint64_t>::max() - base) {
    return Error{fmt::format("cannot map {} at {:#x}: a range of {:#x} bytes is impossible there", name, base, length)};
  }
  const auto next = std::upper_bound(ranges_.begin(), ranges_.end(), base,
                                     [](std::uint64_t address, const Range& range) { return address < range.base; });
  const Range* clash = nullptr;
  if (next != ranges_.end() && next->base - base < length) clash = &*next;
  if (next != ranges_.begin() && base - std::prev(next)->base < std::prev(next)->length) clash = &*std::prev(next);
  if (clash != nullptr) {
    return Error{fmt::format("cannot map {} at {:#x}+{:#x}: {} is at {:#x}+{:#x}", name, base, length, clash->name,
                             clash->base, clash->length)};
  }
  ranges_.insert(next, {base, length, &handler, lock, std::move(name)});
  return {};
}

const IoBus::Range* IoBus::find(std::uint64_t address) const {
  const auto next = std::upper_bound(ranges_.begin(), ranges_.end(), address,
                                     [](std::uint64_t wanted, const Range& range) { return wanted < range.base; });
  if (next == ranges_.begin()) return nullptr;
  const Range& range = *std::prev(next);
  return address - range.base < range.length ? &range : nullptr;
}

std::uint64_t IoBus::read(std::uint64_t address, unsigned size) {
  if (const Range* range = find(address); range != nullptr && contains(*range, address, size)) {
    const auto guard = hold(range->lock);
    return range->handler->read(address - range->base, size) & low_mask(size * 8);
  }
  std::uint64_t value = 0;
  for (unsigned i = 0; i < size; ++i) {
    std::uint64_t byte = 0xFF;
    if (const Range* range = find(address + i)) {
      const auto guard = hold(range->lock);
      byte = range->handler->read(address + i - range->base, 1) & 0xFF;
    }
    value |= byte << (8 * i);
  }
  return value;
}

void IoBus::write(std::uint64_t address, unsigned size, std::uint64_t value) {
  if (const Range* range = find(address); range != nullptr && contains(*range, address, size)) {
    const auto guard = hold(range->lock);
    range->handler->write(address - range->base, size, value & low_mask(size * 8));
    return;
  }
  for (unsigned i = 0; i < size; ++i) {
    if (const Range* range = find(address + i)) {
      const auto guard = hold(range->lock);
      range->handler->write(address + i - range->base, 1, (value >> (8 * i)) & 0xFF);
    }
  }
}

}  // namespace doppel::bus
