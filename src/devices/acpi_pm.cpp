#include "devices/acpi_pm.h"

#include <mutex>

namespace doppel::devices {
namespace {

// PM1 status and enable.
constexpr std::uint16_t kTimer = 1 << 0, kGlobal = 1 << 5, kPowerButton = 1 << 8, kRtc = 1 << 10, kWake = 1 << 15;
constexpr std::uint16_t kStatusBits = kTimer | kGlobal | kPowerButton | kRtc | kWake;
constexpr std::uint16_t kEnableBits = kTimer | kGlobal | kPowerButton | kRtc;
// PM1 control.
constexpr std::uint16_t kSciEnable = 1 << 0, kSleepEnable = 1 << 13;
constexpr unsigned kSleepTypeShift = 10;
constexpr std::uint16_t kSleepType = 7 << kSleepTypeShift;
/// BM_RLD, and the sleep type; GBL_RLS and SLP_EN read as 0.
constexpr std::uint16_t kControlKept = 1 << 1 | kSleepType;

constexpr unsigned kTimerTopBit = 31;

std::uint8_t byte_of(std::uint16_t value, std::uint64_t index) {
  return static_cast<std::uint8_t>(value >> (8 * index));
}
std::uint16_t with_byte(std::uint16_t value, std::uint64_t index, std::uint8_t byte) {
  const unsigned shift = static_cast<unsigned>(8 * index);
  return static_cast<std::uint16_t>((value & ~(0xFFu << shift)) | static_cast<unsigned>(byte) << shift);
}

}  // namespace

AcpiPm::AcpiPm(const Config& config, const time::VmClock& clock, time::TimerQueue& timers)
    : config_(config), clock_(clock), timer_(timers, [this](time::Nanoseconds now) {
        const std::lock_guard guard(lock());
        update(now);
      }) {}

void AcpiPm::reset(bus::ResetKind) {
  pm1_status_ = 0;
  pm1_enable_ = 0;
  pm1_control_ = 0;
  gpe0_status_ = 0;
  gpe0_enable_ = 0;
  carries_seen_ = 0;
  timer_.disarm();
  sci_.lower();
}

void AcpiPm::describe(state::Visitor& v) {
  v.field(1, "pm1_status", pm1_status_);
  v.field(2, "pm1_enable", pm1_enable_);
  v.field(3, "pm1_control", pm1_control_);
  v.field(4, "gpe0_status", gpe0_status_);
  v.field(5, "gpe0_enable", gpe0_enable_);
  v.field(6, "carries_seen", carries_seen_);
  v.on_loaded([this] { update(clock_.now()); });
}

void AcpiPm::synchronize(time::Nanoseconds now) {
  const std::uint64_t carries = timer_ticks(now) >> kTimerTopBit;
  if (carries != carries_seen_) pm1_status_ |= kTimer;
  carries_seen_ = carries;
}

void AcpiPm::update(time::Nanoseconds now) {
  synchronize(now);
  sci_.set((pm1_status_ & pm1_enable_) != 0 || (gpe0_status_ & gpe0_enable_) != 0);
  const bool timer_wanted = (pm1_enable_ & ~pm1_status_ & kTimer) != 0;
  timer_.arm(timer_wanted ? time::time_of_tick((carries_seen_ + 1) << kTimerTopBit, kPmTimerHz) : time::kNever);
}

void AcpiPm::press_power_button() {
  const std::lock_guard guard(lock());
  pm1_status_ |= kPowerButton;
  update(clock_.now());
}

void AcpiPm::raise_gpe(unsigned number) {
  const std::lock_guard guard(lock());
  gpe0_status_ |= static_cast<std::uint16_t>(1u << (number % kGpeCount));
  update(clock_.now());
}

std::uint8_t AcpiPm::read_pm1(std::uint64_t offset) {
  synchronize(clock_.now());
  switch (offset / 2) {
    case 0:
      return byte_of(pm1_status_, offset % 2);
    case 1:
      return byte_of(pm1_enable_, offset % 2);
    default:
      return byte_of(pm1_control_ | kSciEnable, offset % 2);
  }
}

void AcpiPm::write_pm1(std::uint64_t offset, std::uint8_t value) {
  const time::Nanoseconds now = clock_.now();
  synchronize(now);
  switch (offset / 2) {
    case 0:
      pm1_status_ &= static_cast<std::uint16_t>(~(with_byte(0, offset % 2, value) & kStatusBits));
      break;
    case 1:
      pm1_enable_ = with_byte(pm1_enable_, offset % 2, value) & kEnableBits;
      break;
    default: {
      const std::uint16_t control = with_byte(pm1_control_, offset % 2, value);
      pm1_control_ = control & kControlKept;
      const bool is_s5 = (control & kSleepType) >> kSleepTypeShift == config_.sleep_type_s5;
      if ((control & kSleepEnable) != 0 && is_s5 && on_power_off_) on_power_off_();
      break;
    }
  }
  update(now);
}

std::uint64_t AcpiPm::read_timer(std::uint64_t offset, unsigned size) {
  const std::uint64_t value = static_cast<std::uint32_t>(timer_ticks(clock_.now())) >> (8 * (offset & 3));
  return size >= 4 ? value : value & ((std::uint64_t{1} << (8 * size)) - 1);
}

std::uint8_t AcpiPm::read_gpe0(std::uint64_t offset) {
  return byte_of(offset < 2 ? gpe0_status_ : gpe0_enable_, offset % 2);
}

void AcpiPm::write_gpe0(std::uint64_t offset, std::uint8_t value) {
  if (offset < 2) {
    gpe0_status_ &= static_cast<std::uint16_t>(~with_byte(0, offset % 2, value));
  } else {
    gpe0_enable_ = with_byte(gpe0_enable_, offset % 2, value);
  }
  update(clock_.now());
}

}  // namespace doppel::devices
