#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "bus/device.h"
#include "devices/byte_registers.h"
#include "devices/pit_channel.h"
#include "irq/line.h"
#include "time/timer_queue.h"
#include "time/vm_clock.h"

namespace doppel::devices {

/// The 8254 timer of a PC and port 61h, which holds its counter 2's gate and output (Intel data sheet 231164; 82371AB,
/// 4.7.1). Counter 0's output is IRQ 0, counter 1 would refresh memory, counter 2 would sound the speaker.
///
/// Periods that passed before anybody could look make one interrupt, not many.
class Pit8254 : public bus::Device {
 public:
  static constexpr std::uint64_t kClockHz = 1'193'182;

  Pit8254(const time::VmClock& clock, time::TimerQueue& timers);

  void connect_irq(irq::IrqLine irq0) { irq0_ = irq0; }

  std::string_view name() const override { return "pit"; }
  void reset(bus::ResetKind kind) override;
  void describe(state::Visitor& v) override;

  bus::IoHandler& ports() { return ports_; }    ///< 40h, 4 ports
  bus::IoHandler& port61() { return port61_; }  ///< 61h, 1 port

 private:
  std::uint64_t tick() const { return time::ticks_at(clock_.now(), kClockHz); }
  std::uint8_t read_port(std::uint64_t offset);
  void write_port(std::uint64_t offset, std::uint8_t value);
  void read_back(std::uint8_t command, std::uint64_t tick);
  std::uint8_t read_port61(std::uint64_t offset);
  void write_port61(std::uint64_t offset, std::uint8_t value);
  /// After any change of counter 0.
  void update_irq0(std::uint64_t tick);
  void arm(std::uint64_t tick);
  void on_timer(time::Nanoseconds now);

  const time::VmClock& clock_;
  irq::IrqLine irq0_;
  std::array<PitChannel, 3> channels_{PitChannel(true), PitChannel(true), PitChannel(false)};
  std::uint8_t port61_value_ = 0;
  std::uint64_t next_rise_ = kNoRise;  ///< the tick of counter 0's next interrupt

  static constexpr std::uint64_t kNoRise = ~std::uint64_t{0};
  MemberRegisters<Pit8254> ports_{*this, &Pit8254::read_port, &Pit8254::write_port};
  MemberRegisters<Pit8254> port61_{*this, &Pit8254::read_port61, &Pit8254::write_port61};
  time::Timer timer_;
};

}  // namespace doppel::devices
