#pragma once

#include <string>

#include "devices/virtio/device.h"

namespace doppel::devices::virtio {

/// A source of random numbers, the host's (virtio 1.2, 5.4).
class Entropy : public Device {
 public:
  Entropy(std::string name, memory::GuestMemory& memory);

 protected:
  void on_notify(unsigned queue) override;

 private:
  Chain chain_;
};

}  // namespace doppel::devices::virtio
