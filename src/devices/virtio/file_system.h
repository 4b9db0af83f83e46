#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "devices/virtio/device.h"
#include "share/file_server.h"

namespace doppel::devices::virtio {

/// A shared directory (virtio 1.2, 5.11): FUSE requests in, replies out. They are answered in the thread that rings the
/// doorbell, one after the other. Which files the guest knows and has open is no part of a saved state: to a machine
/// that is restored they are stale (ESTALE, EBADF), and looked up by their names again.
class FileSystem : public Device {
 public:
  /// `tag` is what the guest mounts, at most 36 bytes.
  FileSystem(std::string name, std::string_view tag, share::FileServer::Config directory, memory::GuestMemory& memory);

  static constexpr std::size_t kTagBytes = 36;

 protected:
  void on_notify(unsigned queue) override;
  void on_reset() override { server_.reset(); }
  void describe_device(state::Visitor& v) override;
  std::span<const std::uint8_t> device_config() override { return config_; }

 private:
  void answer(unsigned queue);

  std::array<std::uint8_t, kTagBytes + 4> config_{};
  share::FileServer server_;
  Chain chain_;
  std::vector<std::byte> request_, reply_;
};

}  // namespace doppel::devices::virtio
