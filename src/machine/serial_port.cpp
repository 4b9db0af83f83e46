#include "machine/serial_port.h"

#include <algorithm>
#include <array>
#include <utility>

namespace doppel::machine {

SerialPort::SerialPort(std::string name, const time::VmClock& clock, time::TimerQueue& timers)
    : clock_(clock),
      uart_(std::move(name), this, clock, timers),
      feed_timer_(timers, [this](time::Nanoseconds now) { feed(now); }) {}

std::size_t SerialPort::send(std::span<const std::byte> bytes) {
  std::size_t taken = 0;
  {
    const std::scoped_lock lock(mutex_);
    taken = std::min(bytes.size(), kInputLimit - queue_.size());
    for (const std::byte byte : bytes.first(taken)) queue_.push_back(static_cast<std::uint8_t>(byte));
    refused_ = taken < bytes.size();
  }
  feed(clock_.now());
  return taken;
}

void SerialPort::drop_input() {
  const std::scoped_lock lock(mutex_);
  queue_.clear();
}

void SerialPort::feed(time::Nanoseconds now) {
  bool tell = false;
  {
    const std::scoped_lock lock(mutex_);
    while (!queue_.empty()) {
      if (now < rest_until_) {
        feed_timer_.arm(rest_until_);
        break;
      }
      std::array<std::uint8_t, devices::Serial16550::kFifoSize> next{};
      const std::size_t count = std::min(next.size(), queue_.size());
      std::copy_n(queue_.begin(), count, next.begin());
      const std::size_t accepted = uart_.receive(std::span(next).first(count));
      queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(accepted));
      burst_ += accepted;
      if (burst_ >= kBurst) {
        burst_ = 0;
        rest_until_ = now + kRest;
      }
      if (accepted < count) break;
    }
    tell = refused_ && queue_.size() < kInputLimit / 2;
    if (tell) refused_ = false;
  }
  if (tell && on_space_) on_space_();
}

void SerialPort::transmit(std::span<const std::uint8_t> bytes) {
  if (sink_) sink_(std::as_bytes(bytes));
}

void SerialPort::receive_space_available() {
  // The UART is locked now; feeding it has to wait until the vCPU's thread serves its timers, which it does at once.
  feed_timer_.arm(clock_.now());
}

}  // namespace doppel::machine
