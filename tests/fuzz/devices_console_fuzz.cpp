#include "devices/virtio/console.h"
#include "fuzz/virtio_fuzz.h"

namespace {
/// What was printed, read once.
volatile std::byte touched;
}  // namespace

/// Drivers of the console, whose host types and changes its size.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace doppel;
  auto& memory = fuzz::quiet_memory();
  devices::virtio::Console device("fuzz", memory);
  device.set_sink([](std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes) touched = touched ^ byte;
  });
  device.set_on_space([] {});
  const auto host = [&device](fuzz::Input& input) {
    const std::uint8_t what = input.byte();
    if (what == 0) return device.drop_input();
    if (what < 8) return device.set_size(what, input.byte());
    const std::vector<std::byte> typed(what < 250 ? what : devices::virtio::Console::kInputLimit / 2);
    if (device.send(typed) > typed.size()) std::abort();
  };
  fuzz::VirtioFuzz(device, memory, 2, host).run(fuzz::Input({data, size}));
  return 0;
}
