#include "devices/virtio/queue.h"

#include <atomic>
#include <bit>

#include "base/bits.h"

namespace doppel::devices::virtio {
namespace {

/// struct virtq_desc (2.7.5).
struct Descriptor {
  std::uint64_t address;
  std::uint32_t length;
  std::uint16_t flags;
  std::uint16_t next;
};
static_assert(sizeof(Descriptor) == 16);
constexpr std::uint16_t kNext = 1, kWrite = 2, kIndirect = 4;

// The available and used rings begin with flags and index (2.7.6, 2.7.8).
constexpr std::uint64_t kFlagsOffset = 0, kIndexOffset = 2, kRingOffset = 4;
constexpr std::uint64_t kAvailElement = 2, kUsedElement = 8;
constexpr std::uint16_t kNoInterrupt = 1, kNoNotify = 1;

std::uint16_t load_shared(const std::byte* address) {
  // The ring's fields are aligned; the driver writes them while we read.
  return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(const_cast<std::byte*>(address)))
      .load(std::memory_order_acquire);
}

void store_shared(std::byte* address, std::uint16_t value) {
  std::atomic_ref(*reinterpret_cast<std::uint16_t*>(address)).store(value, std::memory_order_release);
}

void full_fence(std::byte* address) {
  // A read-modify-write that changes nothing orders as a fence does, and ThreadSanitizer sees it.
  std::atomic_ref(*reinterpret_cast<std::uint16_t*>(address)).fetch_add(0, std::memory_order_seq_cst);
}

}  // namespace

Queue::Queue(memory::GuestMemory& memory, std::uint16_t max_size)
    : size(max_size), memory_(memory), max_size_(max_size) {}

void Queue::reset() {
  size = max_size_;
  msix_vector = kNoVector;
  descriptor_area = driver_area = device_area = 0;
  enabled_ = event_index_ = false;
  next_avail_ = next_used_ = signalled_ = 0;
}

bool Queue::resolve() {
  if (size == 0 || size > max_size_ || !std::has_single_bit(size)) return false;
  if (descriptor_area % 16 != 0 || driver_area % 2 != 0 || device_area % 4 != 0) return false;
  const auto descriptors = memory_.device_view(descriptor_area, sizeof(Descriptor) * size);
  // Both rings end with the word of the event index.
  const auto avail = memory_.device_view(driver_area, kRingOffset + kAvailElement * size + 2);
  const auto used = memory_.device_view(device_area, kRingOffset + kUsedElement * size + 2);
  if (descriptors.empty() || avail.empty() || used.empty()) return false;
  descriptors_ = descriptors.data();
  avail_ = avail.data();
  used_ = used.data();
  return true;
}

bool Queue::enable(bool event_index) {
  event_index_ = event_index;
  enabled_ = resolve();
  return enabled_;
}

void Queue::describe(state::Visitor& v) {
  v.field(1, "size", size);
  v.field(2, "msix_vector", msix_vector);
  v.field(3, "descriptor_area", descriptor_area);
  v.field(4, "driver_area", driver_area);
  v.field(5, "device_area", device_area);
  v.field(6, "enabled", enabled_);
  v.field(7, "event_index", event_index_);
  v.field(8, "next_avail", next_avail_);
  v.field(9, "next_used", next_used_);
  v.field(10, "signalled", signalled_);
  if (v.is_loading()) v.require(!enabled_ || resolve(), "a virtqueue does not lie in RAM");
}

std::uint16_t Queue::avail_index() const {
  return load_shared(avail_ + kIndexOffset);
}

bool Queue::has_requests() const {
  return enabled_ && avail_index() != next_avail_;
}

Queue::Pop Queue::pop(Chain& chain) {
  if (!enabled_) return Pop::Empty;
  const auto waiting = static_cast<std::uint16_t>(avail_index() - next_avail_);
  if (waiting == 0) return Pop::Empty;
  if (waiting > size) return Pop::Broken;
  const std::byte* const slot = avail_ + kRingOffset + kAvailElement * (next_avail_ % size);
  const auto head = load_le<std::uint16_t>(slot);
  if (!walk(head, chain)) return Pop::Broken;
  ++next_avail_;
  return Pop::Request;
}

bool Queue::walk(std::uint16_t head, Chain& chain) const {
  chain.head = head;
  chain.readable.clear();
  chain.writable.clear();
  const std::byte* table = descriptors_;
  std::uint64_t entries = size;
  std::uint64_t index = head;
  bool indirect = false;
  std::uint64_t total = 0;
  // The count bounds loops: no chain is longer than a queue, or than the longest table that we take.
  for (unsigned count = 0; count < kMaxChain; ++count) {
    if (index >= entries) return false;
    const auto descriptor = load_le<Descriptor>(table + index * sizeof(Descriptor));
    if ((descriptor.flags & kIndirect) != 0) {
      // Not inside an indirect table, and the end of the chain otherwise (2.7.5.3.1).
      if (indirect || (descriptor.flags & kNext) != 0 || descriptor.length % sizeof(Descriptor) != 0) return false;
      const auto view = memory_.device_view(descriptor.address, descriptor.length);
      if (view.empty()) return false;
      table = view.data();
      entries = descriptor.length / sizeof(Descriptor);
      index = 0;
      indirect = true;
      continue;
    }
    const auto view = memory_.device_view(descriptor.address, descriptor.length);
    if (view.empty() && descriptor.length != 0) return false;
    const bool writable = (descriptor.flags & kWrite) != 0;
    // What the device may write comes after everything that it may read (2.7.4.2).
    if (!writable && !chain.writable.empty()) return false;
    total += descriptor.length;
    if (total > UINT32_MAX) return false;
    if (descriptor.length != 0) {
      if (writable) memory_.prepare_device_write(descriptor.address, descriptor.length);
      (writable ? chain.writable : chain.readable).push_back({descriptor.address, descriptor.length, view.data()});
    }
    if ((descriptor.flags & kNext) == 0) return true;
    index = descriptor.next;
  }
  return false;
}

void Queue::write_used(std::uint64_t offset, std::uint16_t value) {
  memory_.prepare_device_write(device_area + offset, sizeof value);
  store_shared(used_ + offset, value);
  memory_.note_device_write(device_area + offset, sizeof value);
}

void Queue::fill(std::uint16_t head, std::uint32_t written) {
  if (!enabled_) return;
  const std::uint64_t offset = kRingOffset + kUsedElement * (next_used_ % size);
  memory_.prepare_device_write(device_area + offset, kUsedElement);
  store_le(used_ + offset, std::uint32_t{head});
  store_le(used_ + offset + 4, written);
  memory_.note_device_write(device_area + offset, kUsedElement);
  ++next_used_;
}

void Queue::publish() {
  if (enabled_) write_used(kIndexOffset, next_used_);
}

void Queue::want_notification() {
  if (!enabled_) return;
  if (event_index_) {
    write_used(kRingOffset + kUsedElement * size, avail_index());
  } else if (load_shared(used_ + kFlagsOffset) != 0) {
    write_used(kFlagsOffset, 0);
  }
  full_fence(used_ + kFlagsOffset);
}

void Queue::refuse_notification() {
  // With event indices, one that has passed asks for nothing.
  if (enabled_ && !event_index_ && load_shared(used_ + kFlagsOffset) != kNoNotify) write_used(kFlagsOffset, kNoNotify);
}

bool Queue::take_interrupt() {
  if (!enabled_ || signalled_ == next_used_) return false;
  const std::uint16_t before = signalled_;
  signalled_ = next_used_;
  full_fence(used_ + kFlagsOffset);
  if (!event_index_) return (load_shared(avail_ + kFlagsOffset) & kNoInterrupt) == 0;
  const std::uint16_t wanted = load_shared(avail_ + kRingOffset + kAvailElement * size);
  // Is `wanted` among the entries that were pushed? (2.7.7.2, in arithmetic modulo 2^16)
  return static_cast<std::uint16_t>(next_used_ - wanted - 1) < static_cast<std::uint16_t>(next_used_ - before);
}

}  // namespace doppel::devices::virtio
