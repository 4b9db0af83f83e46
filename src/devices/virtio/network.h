#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "devices/virtio/device.h"
#include "net/backend.h"

namespace doppel::devices::virtio {

using MacAddress = std::array<std::uint8_t, 6>;

/// A network card (virtio 1.2, 5.1): one queue each way, mergeable receive buffers, checksum and segmentation
/// offloads.
///
/// Frames of the driver go to the backend in the thread that rings the doorbell.
class Network : public Device, private net::Receiver {
 public:
  Network(std::string name, const MacAddress& mac, std::unique_ptr<net::Backend> backend, memory::GuestMemory& memory);
  ~Network() override;

 protected:
  void on_driver_ok() override;
  void on_notify(unsigned queue) override;
  std::span<const std::uint8_t> device_config() override { return config_; }
  void describe_device(state::Visitor& v) override;

 private:
  bool receive(const net::FrameHeader& header, std::span<const std::byte> frame) override;
  void received_all() override;
  void transmit();
  /// Takes buffers for `bytes`, as few as hold them; none when there are not enough.
  bool take_buffers(std::uint64_t bytes);

  static constexpr unsigned kReceiveQueue = 0, kTransmitQueue = 1;

  std::array<std::uint8_t, 12> config_{};
  std::unique_ptr<net::Backend> backend_;
  Chain chain_;
  std::vector<Chain> receive_chains_;
  std::size_t receive_count_ = 0;
  std::vector<std::byte> frame_;
};

}  // namespace doppel::devices::virtio
