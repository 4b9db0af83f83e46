#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <span>

#include "devices/serial16550.h"
#include "time/timer_queue.h"

namespace doppel::machine {

/// The host's end of one UART: output goes to a sink, input waits in a bounded queue until the guest takes it.
class SerialPort : public devices::SerialBackend {
 public:
  static constexpr std::size_t kInputLimit = 65536;
  /// A line without a bit rate would keep the guest in its interrupt handler until all input is there, which fills any
  /// buffer: after so many bytes it is left alone for a while, to read them or to take RTS away.
  static constexpr std::size_t kBurst = 4096;
  static constexpr time::Nanoseconds kRest = 1'000'000;

  /// `timers` is a queue that a vCPU thread serves; input is fed from there once the guest has made room.
  SerialPort(std::string name, const time::VmClock& clock, time::TimerQueue& timers);

  /// Set before the machine runs; called one at a time, in whichever thread the output comes from.
  void set_sink(std::function<void(std::span<const std::byte>)> sink) { sink_ = std::move(sink); }
  void set_on_space(std::function<void()> on_space) { on_space_ = std::move(on_space); }

  /// Any thread but a vCPU's: queues what fits and returns how much that is.
  std::size_t send(std::span<const std::byte> bytes);
  /// Forgets queued input, as a reset of the machine does.
  void drop_input();

  devices::Serial16550& uart() { return uart_; }

  void transmit(std::span<const std::uint8_t> bytes) override;
  void receive_space_available() override;

 private:
  /// Moves queued input into the UART. Without the UART's lock.
  void feed(time::Nanoseconds now);

  const time::VmClock& clock_;
  std::function<void(std::span<const std::byte>)> sink_;
  std::function<void()> on_space_;
  std::mutex mutex_;  ///< of the queue; before the UART's lock
  std::deque<std::uint8_t> queue_;
  bool refused_ = false;  ///< send() could not take everything: on_space_ is owed
  std::size_t burst_ = 0;
  time::Nanoseconds rest_until_ = 0;
  devices::Serial16550 uart_;
  time::Timer feed_timer_;
};

}  // namespace doppel::machine
