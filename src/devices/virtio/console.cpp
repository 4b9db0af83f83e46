#include "devices/virtio/console.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/bits.h"

namespace doppel::devices::virtio {
namespace {

constexpr std::uint32_t kOtherCommunication = 0x07'8000;
constexpr std::uint16_t kQueueSize = 64;
constexpr unsigned kSize = 0;  // 5.3.3
/// What may be printed at once: whoever waits for the device must not wait for gigabytes.
constexpr std::uint64_t kMostOutput = std::uint64_t{1} << 20;

// 5.3.4, struct virtio_console_config
constexpr std::size_t kColumnsOffset = 0, kRowsOffset = 2, kPortsOffset = 4;

}  // namespace

Console::Console(std::string name, memory::GuestMemory& memory)
    : Device(std::move(name),
             {.type = DeviceType::Console,
              .class_code = kOtherCommunication,
              .features = bit(kSize),
              .queues = {kQueueSize, kQueueSize}},
             memory) {
  store_le(&config_[kPortsOffset], std::uint32_t{1});
}

std::size_t Console::send(std::span<const std::byte> bytes) {
  const std::lock_guard guard(lock());
  if (is_active() && std::exchange(owes_size_with_input_, false)) tell_size();
  const std::size_t taken = std::min(bytes.size(), kInputLimit - input_.size());
  input_.insert(input_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
  refused_ = taken < bytes.size();
  fill_receive_queue();
  return taken;
}

void Console::drop_input() {
  const std::lock_guard guard(lock());
  input_.clear();
}

void Console::set_size(std::uint16_t columns, std::uint16_t rows) {
  const std::lock_guard guard(lock());
  store_le(&config_[kColumnsOffset], columns);
  store_le(&config_[kRowsOffset], rows);
  tell_size();
}

bool Console::knows_size() const {
  return std::ranges::any_of(std::span(config_).first(kPortsOffset), [](std::uint8_t byte) { return byte != 0; });
}

void Console::tell_size() {
  if (!knows_size() || !has_feature(kSize)) return;
  // A paused machine is told when it goes on.
  if (is_active()) {
    config_changed();
  } else {
    owes_size_ = true;
  }
}

void Console::describe_device(state::Visitor& v) {
  v.field(50, "has_printed", has_printed_);
  // It may be shown on another terminal now.
  v.on_loaded([this] { owes_size_ = owes_size_with_input_ = true; });
}

void Console::on_notify(unsigned index) {
  if (index == kReceiveQueue) return fill_receive_queue();
  if (std::exchange(owes_size_, false)) tell_size();
  const bool had_printed = has_printed_;
  transmit();
  if (!had_printed) fill_receive_queue();
}

void Console::transmit() {
  do {
    while (take(kTransmitQueue, chain_)) {
      if (total_bytes(chain_.readable) > kMostOutput) return fail("more than a MiB of a console's output at once");
      for (const Buffer& buffer : chain_.readable) {
        if (sink_) sink_({buffer.host, buffer.length});
      }
      has_printed_ = true;
      queue(kTransmitQueue).push(chain_.head, 0);
    }
  } while (rest(kTransmitQueue));
  interrupt(kTransmitQueue);
}

void Console::fill_receive_queue() {
  if (!has_printed_) return;
  bool filled = false;
  do {
    while (!input_.empty() && take(kReceiveQueue, chain_)) {
      const std::uint64_t room = total_bytes(chain_.writable);
      if (room == 0) return fail("a console's receive buffer without room");
      const auto end = input_.begin() + static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(room, input_.size()));
      const std::vector<std::byte> bytes(input_.begin(), end);
      input_.erase(input_.begin(), end);
      queue(kReceiveQueue).push(chain_.head, static_cast<std::uint32_t>(scatter(memory(), chain_.writable, 0, bytes)));
      filled = true;
    }
  } while (!input_.empty() && is_active() && rest(kReceiveQueue));
  if (filled) interrupt(kReceiveQueue);
  if (refused_ && input_.size() < kInputLimit / 2) {
    refused_ = false;
    if (on_space_) on_space_();
  }
}

}  // namespace doppel::devices::virtio
