#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <span>
#include <vector>

#include "base/log.h"
#include "devices/virtio/driver.h"
#include "state/snapshot_io.h"

namespace doppel::fuzz {

/// What is left of a fuzzer's input; zeros after its end.
class Input {
 public:
  explicit Input(std::span<const std::uint8_t> bytes) : rest_(bytes) {}

  bool empty() const { return rest_.empty(); }
  std::uint8_t byte() {
    if (rest_.empty()) return 0;
    const std::uint8_t value = rest_.front();
    rest_ = rest_.subspan(1);
    return value;
  }
  std::uint16_t word() {
    const unsigned low = byte();
    return static_cast<std::uint16_t>(low | static_cast<unsigned>(byte()) << 8);
  }
  /// The next `most` bytes, or all that there are.
  std::span<const std::byte> bytes(std::size_t most) {
    const auto taken = rest_.first(std::min(most, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return std::as_bytes(taken);
  }

 private:
  std::span<const std::uint8_t> rest_;
};

/// A driver that does what an input says, right or wrong, step by step: puts up requests, rings, writes into the rings
/// behind the device's back, touches registers, starts anew, and has the machine pause, save and load. In between the
/// host's side does something. Whatever comes, the device does what it can or fails, and never reads or writes outside
/// the guest's memory, hangs or crashes.
class VirtioFuzz {
 public:
  using Device = devices::virtio::Device;
  using Driver = test::VirtioDriver;
  using Host = std::function<void(Input&)>;

  VirtioFuzz(Device& device, memory::GuestMemory& memory, unsigned queues, Host host)
      : device_(device),
        memory_(memory),
        queue_count_(queues),
        host_(std::move(host)),
        driver_(device, memory),
        queues_(queues) {}

  void run(Input input) {
    start(input.byte());
    while (!input.empty()) step(input);
    if (paused_) device_.resume();
  }

 private:
  void start(std::uint8_t without) {
    for (Queue& queue : queues_) queue = {};
    const std::uint64_t offered = driver_.offered_features();
    // A bit of each byte of the features is left out, or none, or all.
    const std::uint64_t mask = without == 0xFF ? 0 : ~(0x0101'0101'0101'0101U << (without % 8));
    driver_.start(without == 0 ? offered : offered & mask, queue_count_);
    if (without % 2 != 0) driver_.enable_msix(queue_count_ + 1);
  }

  void step(Input& input) {
    const std::uint8_t what = input.byte();
    switch (what % 16) {
      case 5:
        return driver_.notify(what / 16 % queue_count_);
      case 6: {
        const std::uint16_t offset = input.word() % 0x3000;
        memory_.write_value(Driver::descriptors(what / 16 % queue_count_) + offset, input.word());
        return;
      }
      case 7: {
        const std::uint64_t offset = input.word() % Device::kBarBytes;
        const std::uint64_t value = input.word();
        return driver_.write(offset, 1U << (what / 16 % 4), what / 64 == 0 ? value : value << 48 | value);
      }
      case 8:
        static_cast<void>(driver_.read(input.word() % Device::kBarBytes, 1U << (what / 16 % 4)));
        return;
      case 9: {
        const unsigned offset = input.byte() & 0xFCU;
        if (what / 128 == 0) static_cast<void>(device_.config_read(offset, 4));
        return device_.config_write(offset, 1U << (what / 16 % 3), input.word());
      }
      case 10:
      case 11:
        return host_(input);
      case 12:
        return start(input.byte());
      case 13:
        paused_ ? device_.resume() : device_.pause();
        paused_ = !paused_;
        return;
      case 14:
        return save_and_load();
      default:
        put_request(input);
        if (what / 128 == 0) driver_.notify(last_queue_);
    }
  }

  /// Up to three buffers each way: queue and kind, how many, then a length for each and what it holds.
  void put_request(Input& input) {
    if (driver_.failed()) start(0);
    const std::uint8_t kind = input.byte();
    const std::uint8_t shape = input.byte();
    last_queue_ = kind % 8 % queue_count_;
    const unsigned scale = (kind & 0x40) != 0 ? 64 : 1;
    std::vector<Driver::Descriptor> descriptors;
    const unsigned out = shape % 4, in = shape / 4 % 4;
    for (unsigned i = 0; i < out + in; ++i) {
      const std::uint8_t length = input.byte();
      const std::uint64_t place = Driver::kBufferArea + cursor_;
      if (i < out) memory_.write(place, input.bytes(length));
      descriptors.push_back({place, length * scale, static_cast<std::uint16_t>(i < out ? 0 : Driver::kWrite), 0});
      cursor_ = (cursor_ + length * scale + 16) % kBuffers / 16 * 16;
    }
    const bool indirect = (kind & 0x80) != 0;
    Queue& queue = queues_[last_queue_];
    const std::uint16_t head = queue.descriptor;
    for (std::size_t i = 0; i < descriptors.size(); ++i) {
      Driver::Descriptor& each = descriptors[i];
      const std::uint16_t own = indirect ? static_cast<std::uint16_t>(i) : queue.descriptor;
      each.next = static_cast<std::uint16_t>((own + 1) % Driver::kQueueSize);
      if (i + 1 < descriptors.size()) each.flags |= Driver::kNext;
      if (indirect) {
        memory_.write_value(Driver::kBufferArea + cursor_ + 16 * i, each);
      } else {
        driver_.set_descriptor(last_queue_, own, each);
        queue.descriptor = each.next;
      }
    }
    if (indirect) {
      const auto bytes = static_cast<std::uint32_t>(16 * descriptors.size());
      driver_.set_descriptor(last_queue_, head, {Driver::kBufferArea + cursor_, bytes, Driver::kIndirect, 0});
      queue.descriptor = static_cast<std::uint16_t>((head + 1) % Driver::kQueueSize);
      cursor_ = (cursor_ + bytes) % kBuffers;
    }
    // Not the driver's own counter: it begins again with each start.
    memory_.write_value(Driver::available(last_queue_) + 4 + 2 * (queue.available % std::uint64_t{Driver::kQueueSize}),
                        head);
    memory_.write_value(Driver::available(last_queue_) + 2, ++queue.available);
  }

  void save_and_load() {
    if (!paused_) device_.pause();
    const auto describe = [this](state::Visitor& visitor) { device_.describe(visitor); };
    const std::vector<std::byte> saved = state::save(describe);
    // What could be saved can be loaded, unless the queues that the driver set up were never in RAM.
    if (state::load(saved, describe).ok() && state::save(describe) != saved) std::abort();
    if (!paused_) device_.resume();
  }

  static constexpr std::uint64_t kBuffers = 1U << 20;
  struct Queue {
    std::uint16_t available = 0, descriptor = 0;
  };
  Device& device_;
  memory::GuestMemory& memory_;
  const unsigned queue_count_;
  const Host host_;
  Driver driver_;
  std::vector<Queue> queues_;
  unsigned last_queue_ = 0;
  std::uint64_t cursor_ = 0;
  bool paused_ = false;
};

/// Guest memory for all inputs of a process; nothing while the log cannot be silenced.
inline memory::GuestMemory& quiet_memory() {
  static const bool quiet = log::configure(log::Level::Off, "").ok();
  static const auto memory = test::VirtioDriver::make_memory();
  if (!quiet) std::abort();
  return *memory;
}

}  // namespace doppel::fuzz
