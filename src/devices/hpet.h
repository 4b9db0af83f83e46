#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "bus/device.h"
#include "bus/io_bus.h"
#include "irq/line.h"
#include "time/timer_queue.h"
#include "time/vm_clock.h"

namespace doppel::devices {

/// Ticks until a counter of 64 or 32 bits next equals `comparator`: a full turn when it does so now, kHpetNever when
/// that is longer than anybody lives.
std::uint64_t hpet_ticks_until_match(std::uint64_t counter, std::uint64_t comparator, bool is_32_bit);
inline constexpr std::uint64_t kHpetNever = ~std::uint64_t{0};

/// IA-PC HPET (specification 1.0a): a 64-bit main counter of 100 MHz and three timers, all of 64 bits and able to be
/// periodic, with the legacy replacement route and routes to IOAPIC pins 16 to 23; no FSB interrupts.
///
/// Periods that passed before anybody could look make one interrupt.
class Hpet : public bus::Device, public bus::IoHandler {
 public:
  static constexpr std::uint64_t kBytes = 0x400;
  static constexpr unsigned kTimers = 3;
  static constexpr std::int64_t kNanosecondsPerTick = 10;

  /// `pins` takes interrupts by IOAPIC pin number (16 to 23).
  Hpet(const time::VmClock& clock, time::TimerQueue& timers, irq::IrqSink& pins);

  /// Timers 0 and 1 while the legacy replacement route is on.
  void connect_legacy(irq::IrqLine irq0, irq::IrqLine irq8) { legacy_ = {irq0, irq8}; }
  /// Told, with the device's lock held, when that route is switched: IRQ 0 then is the HPET's and no longer the PIT's,
  /// IRQ 8 no longer the RTC's.
  void set_on_legacy_route(std::function<void(bool)> on_legacy_route) { on_legacy_route_ = std::move(on_legacy_route); }

  std::string_view name() const override { return "hpet"; }
  void reset(bus::ResetKind kind) override;
  void describe(state::Visitor& v) override;
  std::uint64_t read(std::uint64_t offset, unsigned size) override;
  void write(std::uint64_t offset, unsigned size, std::uint64_t value) override;

 private:
  struct Comparator {
    std::uint64_t config = 0;          ///< writable part of Tn_CONF_CAP
    std::uint64_t value = kHpetNever;  ///< Tn_CMP
    std::uint64_t period = 0;          ///< last value written to Tn_CMP while periodic
    std::uint64_t due = kHpetNever;    ///< tick of the VM clock of the next match, while the main counter runs
    void describe(state::Visitor& v);
    bool is_32_bit() const;
    bool periodic() const;
  };

  static std::uint64_t tick_at(time::Nanoseconds now) { return static_cast<std::uint64_t>(now / kNanosecondsPerTick); }
  bool enabled() const;
  bool legacy_route() const;
  std::uint64_t main_counter(std::uint64_t tick) const;

  std::uint64_t read_register(std::uint64_t offset);
  void write_register(std::uint64_t offset, std::uint64_t value, std::uint64_t mask);
  void write_general_config(std::uint64_t value, std::uint64_t tick);
  void write_timer_config(unsigned n, std::uint64_t value, std::uint64_t tick);
  void write_comparator(unsigned n, std::uint64_t value, std::uint64_t mask, std::uint64_t tick);
  std::uint64_t timer_register(unsigned n, unsigned reg) const;

  /// Moves matches that have passed behind; true when there was one.
  bool advance(unsigned n, std::uint64_t tick);
  void schedule(unsigned n, std::uint64_t tick);
  void arm(unsigned n);
  void on_timer(unsigned n, time::Nanoseconds now);
  void set_output(unsigned n, bool high);
  /// Level-triggered outputs follow the status register.
  void update_output(unsigned n);

  const time::VmClock& clock_;
  irq::IrqSink& pins_;
  std::array<irq::IrqLine, 2> legacy_{};
  std::function<void(bool)> on_legacy_route_;

  std::uint64_t general_config_ = 0;
  std::uint64_t general_status_ = 0;
  std::uint64_t halted_counter_ = 0;  ///< the main counter while it stands still
  std::uint64_t base_ = 0;            ///< main counter − tick of the VM clock while it runs
  std::array<Comparator, kTimers> comparators_{};
  std::array<std::unique_ptr<time::Timer>, kTimers> timers_;
};

}  // namespace doppel::devices
