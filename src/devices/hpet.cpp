#include "devices/hpet.h"

#include <mutex>

#include "base/bits.h"

namespace doppel::devices {
namespace {

enum Register : std::uint64_t {
  kCapabilities = 0x000,
  kGeneralConfig = 0x010,
  kGeneralStatus = 0x020,
  kMainCounter = 0x0F0,
  kTimer0 = 0x100,
};
constexpr std::uint64_t kTimerStride = 0x20;
enum TimerRegister : unsigned { kConfig = 0x00, kComparator = 0x08 };

constexpr std::uint64_t kFemtosecondsPerTick = Hpet::kNanosecondsPerTick * 1'000'000;
constexpr std::uint64_t kVendorIntel = 0x8086, kRevision = 1, kCounter64 = 1 << 13, kLegacyCapable = 1 << 15;
constexpr std::uint64_t kCapabilitiesValue = kFemtosecondsPerTick << 32 | kVendorIntel << 16 | kLegacyCapable |
                                             kCounter64 | (Hpet::kTimers - 1) << 8 | kRevision;

constexpr std::uint64_t kEnable = 1, kLegacyRoute = 2;

constexpr std::uint64_t kLevel = 1 << 1, kInterruptEnable = 1 << 2, kPeriodic = 1 << 3, kPeriodicCapable = 1 << 4,
                        k64BitCapable = 1 << 5, kSetAccumulator = 1 << 6, k32Bit = 1 << 8, kRoute = 0x1F << 9;
constexpr std::uint64_t kTimerWritable = kLevel | kInterruptEnable | kPeriodic | kSetAccumulator | k32Bit | kRoute;
constexpr std::uint64_t kRoutes = 0x00FF'0000;  // pins 16 to 23
constexpr std::uint64_t kTimerCapabilities = kRoutes << 32 | kPeriodicCapable | k64BitCapable;

constexpr unsigned route_of(std::uint64_t config) {
  return static_cast<unsigned>((config & kRoute) >> 9);
}

}  // namespace

std::uint64_t hpet_ticks_until_match(std::uint64_t counter, std::uint64_t comparator, bool is_32_bit) {
  if (is_32_bit) {
    const auto distance = static_cast<std::uint32_t>(comparator - counter);
    return distance == 0 ? bit(32) : distance;
  }
  const std::uint64_t distance = comparator - counter;
  return distance == 0 || distance >= bit(60) ? kHpetNever : distance;
}

bool Hpet::Comparator::is_32_bit() const {
  return (config & k32Bit) != 0;
}
bool Hpet::Comparator::periodic() const {
  return (config & kPeriodic) != 0 && period != 0;
}

Hpet::Hpet(const time::VmClock& clock, time::TimerQueue& timers, irq::IrqSink& pins) : clock_(clock), pins_(pins) {
  for (unsigned n = 0; n < kTimers; ++n) {
    timers_[n] = std::make_unique<time::Timer>(timers, [this, n](time::Nanoseconds now) { on_timer(n, now); });
  }
}

void Hpet::reset(bus::ResetKind) {
  for (unsigned n = 0; n < kTimers; ++n) {
    timers_[n]->disarm();
    set_output(n, false);
  }
  const bool had_legacy_route = legacy_route();
  general_config_ = 0;
  general_status_ = 0;
  halted_counter_ = 0;
  base_ = 0;
  comparators_.fill({});
  if (had_legacy_route && on_legacy_route_) on_legacy_route_(false);
}

void Hpet::Comparator::describe(state::Visitor& v) {
  v.field(1, "config", config);
  v.field(2, "value", value);
  v.field(3, "period", period);
  v.field(4, "due", due);
}

void Hpet::describe(state::Visitor& v) {
  v.field(1, "general_config", general_config_);
  v.field(2, "general_status", general_status_);
  v.field(3, "halted_counter", halted_counter_);
  v.field(4, "base", base_);
  v.field(5, "comparators", comparators_);
  v.on_loaded([this] {
    if (on_legacy_route_) on_legacy_route_(legacy_route());
    for (unsigned n = 0; n < kTimers; ++n) {
      update_output(n);
      arm(n);
    }
  });
}

bool Hpet::enabled() const {
  return (general_config_ & kEnable) != 0;
}
bool Hpet::legacy_route() const {
  return (general_config_ & kLegacyRoute) != 0;
}

std::uint64_t Hpet::main_counter(std::uint64_t tick) const {
  return enabled() ? base_ + tick : halted_counter_;
}

// --- Matches ------------------------------------------------------------------------------------------------------

void Hpet::schedule(unsigned n, std::uint64_t tick) {
  Comparator& timer = comparators_[n];
  timer.due = kHpetNever;
  if (enabled()) {
    const std::uint64_t ticks = hpet_ticks_until_match(main_counter(tick), timer.value, timer.is_32_bit());
    if (ticks != kHpetNever) timer.due = tick + ticks;
  }
  arm(n);
}

void Hpet::arm(unsigned n) {
  const Comparator& timer = comparators_[n];
  const bool matters = (timer.config & (kInterruptEnable | kLevel)) != 0;
  constexpr auto kLast = static_cast<std::uint64_t>(time::kNever / kNanosecondsPerTick);
  timers_[n]->arm(matters && timer.due < kLast ? static_cast<time::Nanoseconds>(timer.due) * kNanosecondsPerTick
                                               : time::kNever);
}

bool Hpet::advance(unsigned n, std::uint64_t tick) {
  Comparator& timer = comparators_[n];
  if (timer.due > tick) return false;
  if (timer.periodic()) {
    const std::uint64_t ticks = ((tick - timer.due) / timer.period + 1) * timer.period;
    timer.value += ticks;
    if (timer.is_32_bit()) timer.value &= low_mask(32);
    timer.due += ticks;
  } else if (timer.is_32_bit()) {
    timer.due += ((tick - timer.due) / bit(32) + 1) * bit(32);
  } else {
    timer.due = kHpetNever;
  }
  return true;
}

void Hpet::on_timer(unsigned n, time::Nanoseconds now) {
  const std::lock_guard guard(lock());
  if (!advance(n, tick_at(now))) return;
  if ((comparators_[n].config & kLevel) != 0) {
    general_status_ |= bit(n);
    update_output(n);
  } else if ((comparators_[n].config & kInterruptEnable) != 0) {
    set_output(n, true);
    set_output(n, false);
  }
  arm(n);
}

void Hpet::set_output(unsigned n, bool high) {
  if (legacy_route() && n < legacy_.size()) {
    legacy_[n].set(high);
    return;
  }
  const unsigned pin = route_of(comparators_[n].config);
  if ((kRoutes & bit(pin)) != 0) pins_.set_input(pin, high);
}

void Hpet::update_output(unsigned n) {
  const std::uint64_t config = comparators_[n].config;
  set_output(n, (config & kLevel) != 0 && (config & kInterruptEnable) != 0 && (general_status_ & bit(n)) != 0);
}

// --- Registers ----------------------------------------------------------------------------------------------------

std::uint64_t Hpet::timer_register(unsigned n, unsigned reg) const {
  if (reg == kConfig) return comparators_[n].config | kTimerCapabilities;
  return reg == kComparator ? comparators_[n].value : 0;
}

std::uint64_t Hpet::read_register(std::uint64_t offset) {
  const std::uint64_t tick = tick_at(clock_.now());
  switch (offset) {
    case kCapabilities:
      return kCapabilitiesValue;
    case kGeneralConfig:
      return general_config_;
    case kGeneralStatus:
      return general_status_;
    case kMainCounter:
      return main_counter(tick);
    default:
      break;
  }
  const std::uint64_t n = (offset - kTimer0) / kTimerStride;
  if (offset < kTimer0 || n >= kTimers) return 0;
  const auto timer = static_cast<unsigned>(n);
  // Nobody may be watching this timer; its accumulator moves all the same.
  if ((comparators_[timer].config & (kInterruptEnable | kLevel)) == 0) advance(timer, tick);
  return timer_register(timer, static_cast<unsigned>(offset % kTimerStride));
}

void Hpet::write_general_config(std::uint64_t value, std::uint64_t tick) {
  const std::uint64_t counter = main_counter(tick);
  const bool was_enabled = enabled();
  const bool had_legacy_route = legacy_route();
  for (unsigned n = 0; n < kTimers; ++n) set_output(n, false);
  general_config_ = value & (kEnable | kLegacyRoute);
  if (enabled() != was_enabled) {
    halted_counter_ = enabled() ? 0 : counter;
    base_ = enabled() ? counter - tick : 0;
    for (unsigned n = 0; n < kTimers; ++n) schedule(n, tick);
  }
  if (legacy_route() != had_legacy_route && on_legacy_route_) on_legacy_route_(legacy_route());
  for (unsigned n = 0; n < kTimers; ++n) update_output(n);
}

void Hpet::write_timer_config(unsigned n, std::uint64_t value, std::uint64_t tick) {
  Comparator& timer = comparators_[n];
  set_output(n, false);
  advance(n, tick);
  value &= kTimerWritable;
  // A route that the timer cannot take is not taken; software finds out by reading it back.
  if ((kRoutes & bit(route_of(value))) == 0) value = (value & ~kRoute) | (timer.config & kRoute);
  timer.config = value;
  if (timer.is_32_bit()) {
    timer.value &= low_mask(32);
    timer.period &= low_mask(32);
  }
  if ((timer.config & kLevel) == 0) general_status_ &= ~bit(n);
  schedule(n, tick);
  update_output(n);
}

void Hpet::write_comparator(unsigned n, std::uint64_t value, std::uint64_t mask, std::uint64_t tick) {
  Comparator& timer = comparators_[n];
  const std::uint64_t kept = timer.is_32_bit() ? low_mask(32) : ~std::uint64_t{0};
  const bool periodic = (timer.config & kPeriodic) != 0;
  if (!periodic || (timer.config & kSetAccumulator) != 0) timer.value = ((timer.value & ~mask) | value) & kept;
  if (periodic) timer.period = ((timer.period & ~mask) | value) & kept;
  timer.config &= ~kSetAccumulator;
  schedule(n, tick);
}

void Hpet::write_register(std::uint64_t offset, std::uint64_t value, std::uint64_t mask) {
  const std::uint64_t tick = tick_at(clock_.now());
  switch (offset) {
    case kGeneralConfig:
      write_general_config((general_config_ & ~mask) | value, tick);
      return;
    case kGeneralStatus:
      general_status_ &= ~value;
      for (unsigned n = 0; n < kTimers; ++n) update_output(n);
      return;
    case kMainCounter:
      if (!enabled()) halted_counter_ = (halted_counter_ & ~mask) | value;
      return;
    default:
      break;
  }
  const std::uint64_t n = (offset - kTimer0) / kTimerStride;
  if (offset < kTimer0 || n >= kTimers) return;
  const auto timer = static_cast<unsigned>(n);
  if (offset % kTimerStride == kConfig) {
    write_timer_config(timer, (comparators_[timer].config & ~mask) | value, tick);
  } else if (offset % kTimerStride == kComparator) {
    write_comparator(timer, value, mask, tick);
  }
}

std::uint64_t Hpet::read(std::uint64_t offset, unsigned size) {
  const unsigned shift = static_cast<unsigned>(offset % 8) * 8;
  return (read_register(offset & ~std::uint64_t{7}) >> shift) & low_mask(size * 8);
}

void Hpet::write(std::uint64_t offset, unsigned size, std::uint64_t value) {
  const unsigned shift = static_cast<unsigned>(offset % 8) * 8;
  const std::uint64_t mask = low_mask(size * 8) << shift;
  write_register(offset & ~std::uint64_t{7}, (value << shift) & mask, mask);
}

}  // namespace doppel::devices
