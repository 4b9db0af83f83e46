#include "devices/virtio/entropy.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <utility>

namespace doppel::devices::virtio {
namespace {

constexpr std::uint32_t kOtherSystemPeripheral = 0x08'8000;
constexpr std::uint16_t kQueueSize = 64;
/// What one request gets at most: the driver asks again if it wants more.
constexpr std::size_t kMostBytes = 4096;

}  // namespace

Entropy::Entropy(std::string name, memory::GuestMemory& memory)
    : Device(std::move(name),
             {.type = DeviceType::Entropy, .class_code = kOtherSystemPeripheral, .queues = {kQueueSize}}, memory) {}

void Entropy::on_notify(unsigned index) {
  do {
    while (take(index, chain_)) {
      std::array<std::byte, kMostBytes> bytes{};
      const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(total_bytes(chain_.writable), kMostBytes));
      const ssize_t got = ::getrandom(bytes.data(), wanted, 0);
      const std::size_t written =
          scatter(memory(), chain_.writable, 0, std::span(bytes).first(got > 0 ? static_cast<std::size_t>(got) : 0));
      queue(index).push(chain_.head, static_cast<std::uint32_t>(written));
    }
  } while (rest(index));
  interrupt(index);
}

}  // namespace doppel::devices::virtio
