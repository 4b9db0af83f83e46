#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "bus/device.h"
#include "devices/byte_registers.h"
#include "devices/member_handler.h"
#include "irq/line.h"
#include "time/timer_queue.h"
#include "time/vm_clock.h"

namespace doppel::devices {

/// The ACPI fixed hardware (ACPI 6.5, 4.8.3): PM1a event and control registers, the 32-bit PM timer, general-purpose
/// event block 0. Always in ACPI mode: SCI_EN reads as set, there is no SMI command port.
class AcpiPm : public bus::Device {
 public:
  static constexpr std::uint64_t kPmTimerHz = 3'579'545;
  static constexpr unsigned kGpeCount = 16;

  struct Config {
    std::uint8_t sleep_type_s5;  ///< SLP_TYPa of \_S5
  };
  AcpiPm(const Config& config, const time::VmClock& clock, time::TimerQueue& timers);

  void connect_sci(irq::IrqLine sci) { sci_ = sci; }
  /// The guest has entered S5. Called in the vCPU's thread with the device's lock held.
  void set_on_power_off(std::function<void()> on_power_off) { on_power_off_ = std::move(on_power_off); }

  std::string_view name() const override { return "acpi_pm"; }
  void reset(bus::ResetKind kind) override;
  void describe(state::Visitor& v) override;

  bus::IoHandler& pm1_registers() { return pm1_; }        ///< event block and control register: 6 ports
  bus::IoHandler& timer_register() { return pm_timer_; }  ///< 4 ports
  bus::IoHandler& gpe0_registers() { return gpe0_; }      ///< 4 ports: status, enable

  // --- The host's side; takes lock(). Any thread.
  void press_power_button();
  /// An event of the general-purpose block, below kGpeCount.
  void raise_gpe(unsigned number);

 private:
  std::uint8_t read_pm1(std::uint64_t offset);
  void write_pm1(std::uint64_t offset, std::uint8_t value);
  std::uint64_t read_timer(std::uint64_t offset, unsigned size);
  void write_timer(std::uint64_t, unsigned, std::uint64_t) {}
  std::uint8_t read_gpe0(std::uint64_t offset);
  void write_gpe0(std::uint64_t offset, std::uint8_t value);
  std::uint64_t timer_ticks(time::Nanoseconds now) const { return time::ticks_at(now, kPmTimerHz); }
  /// Sets TMR_STS when the timer's top bit has changed since the last call.
  void synchronize(time::Nanoseconds now);
  void update(time::Nanoseconds now);

  const Config config_;
  const time::VmClock& clock_;
  irq::IrqLine sci_;
  std::function<void()> on_power_off_;

  std::uint16_t pm1_status_ = 0;
  std::uint16_t pm1_enable_ = 0;
  std::uint16_t pm1_control_ = 0;
  std::uint16_t gpe0_status_ = 0;
  std::uint16_t gpe0_enable_ = 0;
  std::uint64_t carries_seen_ = 0;  ///< changes of the timer's top bit that TMR_STS knows of

  MemberRegisters<AcpiPm> pm1_{*this, &AcpiPm::read_pm1, &AcpiPm::write_pm1};
  MemberHandler<AcpiPm> pm_timer_{*this, &AcpiPm::read_timer, &AcpiPm::write_timer};
  MemberRegisters<AcpiPm> gpe0_{*this, &AcpiPm::read_gpe0, &AcpiPm::write_gpe0};
  time::Timer timer_;
};

}  // namespace doppel::devices
