#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "devices/virtio/device.h"

namespace doppel::devices::virtio {

/// What the guest says of its memory (virtio 1.2, 5.5.6.3): tags with values, bytes unless the tag counts something.
struct BalloonStatistics {
  static constexpr std::size_t kTags = 10;
  /// By tag: swap in, swap out, major faults, minor faults, free, total, available, disk caches, huge page allocations
  /// and failures; 0 until the guest has told.
  std::array<std::uint64_t, kTags> values{};
};

/// Takes memory back from the guest (virtio 1.2, 5.5): as many pages as it is asked to give, and, by free page
/// reporting, those that it does not use at the moment. Either way the host gets them back at once, and they read as
/// zeros when the guest uses them again.
class Balloon : public Device {
 public:
  Balloon(std::string name, memory::GuestMemory& memory);

  /// Asks the guest for `pages` pages of 4 KiB in all; it gives them when it can. Any thread.
  void set_target(std::uint32_t pages);
  /// How many pages it has given.
  std::uint32_t actual();
  /// Asks for new statistics and returns the last ones.
  BalloonStatistics statistics();
  /// Bytes that the guest has given back by reporting, since the start.
  std::uint64_t reported_bytes();

 protected:
  void on_notify(unsigned queue) override;
  void on_reset() override;
  std::span<const std::uint8_t> device_config() override { return config_; }
  void write_device_config(std::uint64_t offset, unsigned size, std::uint64_t value) override;
  void describe_device(state::Visitor& v) override;

 private:
  void inflate();
  void discard_pages(const Chain& chain);
  void take_statistics();
  void report(unsigned queue);
  void acknowledge(unsigned queue);

  std::array<std::uint8_t, 16> config_{};
  Chain chain_;
  BalloonStatistics statistics_;
  std::uint64_t reported_bytes_ = 0;
  std::uint16_t statistics_request_ = 0;  ///< the buffer that waits to be given back
  bool has_statistics_request_ = false;
};

}  // namespace doppel::devices::virtio
