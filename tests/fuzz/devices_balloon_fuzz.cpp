#include "devices/virtio/balloon.h"
#include "fuzz/virtio_fuzz.h"

/// Drivers of the balloon, whose host asks for memory and statistics.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace doppel;
  auto& memory = fuzz::quiet_memory();
  devices::virtio::Balloon device("fuzz", memory);
  const auto host = [&device](fuzz::Input& input) {
    const std::uint8_t pages = input.byte();
    if (pages != 0) device.set_target(pages);
    static_cast<void>(device.statistics());
    static_cast<void>(device.actual() + device.reported_bytes());
  };
  fuzz::VirtioFuzz(device, memory, 5, host).run(fuzz::Input({data, size}));
  return 0;
}
