#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "bus/device.h"
#include "devices/byte_registers.h"
#include "devices/rtc_calendar.h"
#include "irq/line.h"
#include "time/timer_queue.h"
#include "time/vm_clock.h"

namespace doppel::devices {

/// The real-time clock of a PC (Motorola MC146818A) with 128 bytes of battery-backed RAM: ports 70h (index) and 71h
/// (data). The century is at 32h, as the FADT says. IRQ 8 is high while IRQF is set.
///
/// The time is a function of the VM clock. Flags are computed when somebody looks; a timer runs only for an interrupt
/// that is enabled and not yet raised, so a guest that does not read register C is not stormed.
class CmosRtc : public bus::Device, public ByteRegisters {
 public:
  struct Config {
    std::int64_t utc_base = 0;  ///< nanoseconds since the epoch at VM time 0
    std::uint64_t ram_below_4g = 0;
    std::uint64_t ram_above_4g = 0;
  };

  CmosRtc(const Config& config, const time::VmClock& clock, time::TimerQueue& timers);

  void connect_irq(irq::IrqLine irq8) { irq8_ = irq8; }

  std::string_view name() const override { return "rtc"; }
  void reset(bus::ResetKind kind) override;
  void describe(state::Visitor& v) override;

 protected:
  std::uint8_t read_byte(std::uint64_t offset) override;
  void write_byte(std::uint64_t offset, std::uint8_t value) override;

 private:
  static constexpr std::size_t kBytes = 128;
  /// Seconds, minutes, hours, weekday, day, month, year, century.
  using TimeRegisters = std::array<std::uint8_t, 8>;

  bool counting() const;
  bool divider_held() const;
  std::int64_t rtc_at(time::Nanoseconds now) const { return now + offset_; }
  std::uint64_t periodic_interval() const;

  std::uint8_t encode(int value) const;
  int decode(std::uint8_t value) const;
  std::uint8_t encode_hour(int hour) const;
  int decode_hour(std::uint8_t value) const;
  TimeRegisters time_registers(time::Nanoseconds now) const;
  RtcAlarm alarm() const;
  /// The clock goes on from these registers, `phase` ns into their second.
  void set_time(const TimeRegisters& registers, time::Nanoseconds now, std::int64_t phase);

  std::uint8_t read_register(std::uint8_t index, time::Nanoseconds now);
  void write_register(std::uint8_t index, std::uint8_t value, time::Nanoseconds now);
  void write_control(std::uint8_t a, std::uint8_t b, time::Nanoseconds now);
  void fill_ram();

  /// Sets the flags for all that happened since the last call.
  void synchronize(time::Nanoseconds now);
  void update(time::Nanoseconds now);
  time::Nanoseconds next_interrupt(time::Nanoseconds now) const;
  void on_timer(time::Nanoseconds now);

  const Config config_;
  const time::VmClock& clock_;
  irq::IrqLine irq8_;

  std::uint8_t index_ = 0;
  std::array<std::uint8_t, kBytes> ram_{};  ///< alarm registers and A to D at their places, no time registers
  TimeRegisters held_{};                    ///< the time while it is not counting
  std::int64_t offset_ = 0;                 ///< the clock's time − VM time, in ns
  time::Nanoseconds synchronized_ = 0;

  time::Timer timer_;
};

}  // namespace doppel::devices
