#include "devices/virtio/entropy.h"
#include "fuzz/virtio_fuzz.h"

/// Drivers of the entropy device.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace doppel;
  auto& memory = fuzz::quiet_memory();
  devices::virtio::Entropy device("fuzz", memory);
  fuzz::VirtioFuzz(device, memory, 1, [](fuzz::Input&) {}).run(fuzz::Input({data, size}));
  return 0;
}
