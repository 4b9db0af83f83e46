#pragma once

#include <cstdint>

#include "devices/virtio/chain.h"
#include "memory/guest_memory.h"
#include "state/visitor.h"

namespace doppel::devices::virtio {

/// A split virtqueue as the device sees it (virtio 1.2, 2.7), with indirect descriptors and event indices. Guarded by
/// its device's lock; the driver works on the rings at the same time.
///
/// Everything in the rings is the driver's word: whatever is impossible makes pop() say Broken, after which the device
/// must fail.
class Queue {
 public:
  static constexpr std::uint16_t kNoVector = 0xFFFF;
  /// The longest chain: indirect tables may be longer than the queue.
  static constexpr unsigned kMaxChain = 1024;

  Queue(memory::GuestMemory& memory, std::uint16_t max_size);

  // --- What the driver sets up, in the words of the common configuration structure (virtio 1.2, 4.1.4.3) ---
  std::uint16_t max_size() const { return max_size_; }
  std::uint16_t size = 0;
  std::uint16_t msix_vector = kNoVector;
  memory::GuestPhysical descriptor_area = 0;
  memory::GuestPhysical driver_area = 0;
  memory::GuestPhysical device_area = 0;

  /// Turns the queue on. False when the size or the areas are impossible; it then stays off.
  bool enable(bool event_index);
  bool enabled() const { return enabled_; }
  void reset();
  void describe(state::Visitor& v);

  // --- Requests ---
  enum class Pop : std::uint8_t { Empty, Request, Broken };
  /// Takes the next request.
  Pop pop(Chain& chain);
  /// Puts the last popped request back: it will be the next again.
  void unpop() { --next_avail_; }
  /// Whether the driver has put up more than was popped.
  bool has_requests() const;
  /// Grows by one, modulo 2^16, with each request that the driver puts up.
  std::uint16_t driver_index() const { return enabled_ ? avail_index() : 0; }
  /// Gives a request back, with the number of bytes that the device has written to it.
  void push(std::uint16_t head, std::uint32_t written) {
    fill(head, written);
    publish();
  }
  /// The same in two steps, for several requests that belong together: the driver sees what was filled in once it is
  /// published.
  void fill(std::uint16_t head, std::uint32_t written);
  void publish();

  /// Asks for a notification of the next request that the driver puts up. Look for requests again after this: one that
  /// came before is not notified.
  void want_notification();
  /// The driver need not tell of new requests for now.
  void refuse_notification();
  /// Whether the driver wants to hear of what was pushed since the last call.
  bool take_interrupt();

 private:
  bool resolve();
  bool walk(std::uint16_t head, Chain& chain) const;
  std::uint16_t avail_index() const;
  void write_used(std::uint64_t offset, std::uint16_t value);

  memory::GuestMemory& memory_;
  const std::uint16_t max_size_;
  bool enabled_ = false;
  bool event_index_ = false;
  std::uint16_t next_avail_ = 0;  ///< of the available ring, the entry to be taken next
  std::uint16_t next_used_ = 0;   ///< of the used ring, the entry to be filled next
  std::uint16_t signalled_ = 0;   ///< next_used_ at the last look at whether to interrupt
  // Host views of the three areas while the queue is on.
  const std::byte* descriptors_ = nullptr;
  const std::byte* avail_ = nullptr;
  std::byte* used_ = nullptr;
};

}  // namespace doppel::devices::virtio
