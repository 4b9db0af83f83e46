#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string>

#include "devices/virtio/device.h"

namespace doppel::devices::virtio {

/// A console of one port (virtio 1.2, 5.3), which Linux calls hvc0: bytes both ways, and the size of the terminal at
/// the host's end.
///
/// Output goes to the sink in the thread that rings the doorbell, which may wait there. Input that the guest has no
/// buffer for waits here; like the sink, it is the host's, and no part of the saved state. All of it waits until the
/// guest has printed something, because Linux throws away what comes before its port is set up.
class Console : public Device {
 public:
  static constexpr std::size_t kInputLimit = 65536;

  Console(std::string name, memory::GuestMemory& memory);

  /// Set before the machine runs; called in vCPU threads with the device's lock held.
  void set_sink(std::function<void(std::span<const std::byte>)> sink) { sink_ = std::move(sink); }
  /// Called once there is room again after send() has refused bytes.
  void set_on_space(std::function<void()> on_space) { on_space_ = std::move(on_space); }

  /// Any thread but a vCPU's: queues what fits and returns how much that is.
  std::size_t send(std::span<const std::byte> bytes);
  /// Forgets queued input, as a reset of the machine does.
  void drop_input();
  /// The terminal's size in characters, of which the guest is told; 0 by 0 as long as nobody knows. Any thread.
  void set_size(std::uint16_t columns, std::uint16_t rows);

 protected:
  void on_driver_ok() override { owes_size_ = true; }
  void on_reset() override { has_printed_ = false; }
  void on_notify(unsigned queue) override;
  std::span<const std::uint8_t> device_config() override { return config_; }
  void describe_device(state::Visitor& v) override;

 private:
  static constexpr unsigned kReceiveQueue = 0, kTransmitQueue = 1;

  void transmit();
  /// Moves input into the receive queue, as far as it has buffers.
  void fill_receive_queue();
  bool knows_size() const;
  void tell_size();

  std::array<std::uint8_t, 12> config_{};
  std::function<void(std::span<const std::byte>)> sink_;
  std::function<void()> on_space_;
  Chain chain_;
  std::deque<std::byte> input_;
  bool has_printed_ = false;
  bool refused_ = false;  ///< send() could not take everything: on_space_ is owed
  /// Linux forgets a size that it is told before it has set up its port, and never asks: it is told once more when it
  /// prints for the first time, and when it first gets input.
  bool owes_size_ = false, owes_size_with_input_ = true;
};

}  // namespace doppel::devices::virtio
