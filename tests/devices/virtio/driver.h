#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/bits.h"
#include "bus/pci_bus.h"
#include "devices/virtio/device.h"
#include "memory/guest_memory.h"

namespace doppel::test {

/// A driver for virtio devices, small enough for tests: it lays its queues out in guest memory and speaks to the device
/// through BAR 0, as a guest does. Messages and interrupt levels that the device sends are counted.
class VirtioDriver {
 public:
  using Device = devices::virtio::Device;
  static constexpr std::uint64_t kMemory = std::uint64_t{4} << 20;
  static constexpr std::uint16_t kQueueSize = 16;
  static constexpr std::uint64_t kBufferArea = 0x10'0000;

  struct Descriptor {
    std::uint64_t address;
    std::uint32_t length;
    std::uint16_t flags;
    std::uint16_t next;
  };
  static constexpr std::uint16_t kNext = 1, kWrite = 2, kIndirect = 4;
  static constexpr std::uint8_t kNeedsReset = 64;

  static std::unique_ptr<memory::GuestMemory> make_memory() {
    return std::move(memory::GuestMemory::create(kMemory)).value();
  }

  VirtioDriver(Device& device, memory::GuestMemory& memory)
      : device_(device),
        memory_(memory),
        bus_({.message = [this](std::uint64_t, std::uint32_t data) { messages.push_back(data); },
              .intx = [this](unsigned, bool high) { intx = high; }}) {
    bus_.attach(device, 1);
    bus_.assign_resources({0xC000'0000, 0xE000'0000, 0xC000, 0x1'0000, 16});
    device.config_write(bus::pci_register::kCommand, 2, 6);
  }

  std::uint64_t read(std::uint64_t offset, unsigned size) { return device_.bar_read(0, offset, size); }
  void write(std::uint64_t offset, unsigned size, std::uint64_t value) { device_.bar_write(0, offset, size, value); }

  std::uint64_t offered_features() {
    write(0x00, 4, 0);
    const std::uint64_t low = read(0x04, 4);
    write(0x00, 4, 1);
    return low | read(0x04, 4) << 32;
  }
  std::uint8_t status() { return static_cast<std::uint8_t>(read(0x14, 1)); }
  bool failed() { return (status() & kNeedsReset) != 0; }

  /// Resets the device and brings it up with these features (and VERSION_1) and its queues.
  void start(std::uint64_t features, unsigned queues) {
    write(0x14, 1, 0);
    write(0x14, 1, 3);
    features |= bit(devices::virtio::feature::kVersion1);
    for (std::uint64_t half = 0; half < 2; ++half) {
      write(0x08, 4, half);
      write(0x0C, 4, features >> (32 * half) & 0xFFFF'FFFF);
    }
    write(0x14, 1, 11);
    queues_.assign(queues, {});
    for (unsigned i = 0; i < queues; ++i) set_up_queue(i);
    write(0x14, 1, 15);
  }

  void set_up_queue(unsigned index) {
    write(0x16, 2, index);
    write(0x18, 2, kQueueSize);
    write(0x20, 8, descriptors(index));
    write(0x28, 8, available(index));
    write(0x30, 8, used(index));
    memory_.write(descriptors(index), std::vector<std::byte>(0x3000));
    write(0x1C, 2, 1);
  }

  static std::uint64_t descriptors(unsigned queue) { return 0x1'0000 + 0x4000 * std::uint64_t{queue}; }
  static std::uint64_t available(unsigned queue) { return descriptors(queue) + 0x1000; }
  static std::uint64_t used(unsigned queue) { return descriptors(queue) + 0x2000; }

  void set_descriptor(unsigned queue, unsigned index, const Descriptor& descriptor) {
    memory_.write_value(descriptors(queue) + 16 * std::uint64_t{index}, descriptor);
  }
  void make_available(unsigned queue, std::uint16_t head) {
    std::uint16_t& next = queues_[queue].available;
    memory_.write_value(available(queue) + 4 + 2 * (next % std::uint64_t{kQueueSize}), head);
    memory_.write_value(available(queue) + 2, ++next);
  }
  void notify(unsigned queue) { write(Device::kNotify + Device::kNotifyMultiplier * std::uint64_t{queue}, 2, queue); }

  /// Puts one request up: bytes for the device to read, then room of these sizes for it to write. Returns where the
  /// buffers lie, in order.
  std::vector<std::uint64_t> submit(unsigned queue, const std::vector<std::vector<std::byte>>& out,
                                    const std::vector<std::uint32_t>& in) {
    std::vector<std::uint64_t> places;
    std::uint16_t& next = queues_[queue].descriptor;
    const std::uint16_t head = next;
    const std::size_t count = out.size() + in.size();
    for (std::size_t i = 0; i < count; ++i) {
      const bool writable = i >= out.size();
      const auto length = writable ? in[i - out.size()] : static_cast<std::uint32_t>(out[i].size());
      places.push_back(buffer_);
      if (!writable) memory_.write(buffer_, out[i]);
      buffer_ += align_up(length, 16);
      const auto following = static_cast<std::uint16_t>((next + 1) % kQueueSize);
      set_descriptor(queue, next,
                     {places.back(), length,
                      static_cast<std::uint16_t>((writable ? kWrite : 0) | (i + 1 < count ? kNext : 0)), following});
      next = following;
    }
    make_available(queue, head);
    return places;
  }

  struct Used {
    std::uint32_t head;
    std::uint32_t length;
  };
  /// The next request that the device has given back.
  std::optional<Used> take_used(unsigned queue) {
    std::uint16_t index = 0;
    memory_.read_value(used(queue) + 2, index);
    std::uint16_t& seen = queues_[queue].used;
    if (index == seen) return std::nullopt;
    Used element{};
    memory_.read_value(used(queue) + 4 + 8 * (seen++ % std::uint64_t{kQueueSize}), element);
    return element;
  }

  std::vector<std::byte> bytes(std::uint64_t address, std::size_t size) {
    std::vector<std::byte> out(size);
    memory_.read(address, out);
    return out;
  }
  std::string text(std::uint64_t address, std::size_t size) {
    const auto raw = bytes(address, size);
    return {reinterpret_cast<const char*>(raw.data()), raw.size()};
  }

  void enable_msix(unsigned vectors) {
    for (unsigned i = 0; i < vectors; ++i) {
      write(Device::kMsixTable + 16 * std::uint64_t{i}, 8, 0xFEE0'0000);
      write(Device::kMsixTable + 16 * std::uint64_t{i} + 8, 4, 0x40 + i);
      write(Device::kMsixTable + 16 * std::uint64_t{i} + 12, 4, 0);
    }
    unsigned capability = device_.config_read(bus::pci_register::kCapabilities, 1);
    while (device_.config_read(capability, 1) != bus::PciMsix::kCapabilityId) {
      capability = device_.config_read(capability + 1, 1);
    }
    device_.config_write(capability + 2, 2, bus::PciMsix::kEnable);
  }

  std::vector<std::uint32_t> messages;
  bool intx = false;

 private:
  struct QueueState {
    std::uint16_t available = 0, used = 0, descriptor = 0;
  };
  Device& device_;
  memory::GuestMemory& memory_;
  bus::PciBus bus_;
  std::vector<QueueState> queues_;
  std::uint64_t buffer_ = kBufferArea;
};

/// Bytes of a trivially copyable value.
template <class T>
std::vector<std::byte> as_vector(const T& value) {
  const auto bytes = std::as_bytes(std::span{&value, 1});
  return {bytes.begin(), bytes.end()};
}

}  // namespace doppel::test
