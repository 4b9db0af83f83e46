#include "devices/cmos_rtc.h"

#include <algorithm>
#include <mutex>
#include <numeric>

namespace doppel::devices {
namespace {

using time::kSecond;
using time::Nanoseconds;

enum Index : std::uint8_t {
  kSeconds = 0x00,
  kSecondsAlarm = 0x01,
  kMinutes = 0x02,
  kMinutesAlarm = 0x03,
  kHours = 0x04,
  kHoursAlarm = 0x05,
  kDayOfWeek = 0x06,
  kDayOfMonth = 0x07,
  kMonth = 0x08,
  kYear = 0x09,
  kA = 0x0A,
  kB = 0x0B,
  kC = 0x0C,
  kD = 0x0D,
  kEquipment = 0x14,
  kBaseMemory = 0x15,
  kExtendedMemory = 0x17,
  kChecksum = 0x2E,
  kExtendedMemoryPost = 0x30,
  kCentury = 0x32,
  kMemoryAbove16M = 0x34,
  kMemoryAbove4G = 0x5B,
};
/// Index of each time register, in the order of TimeRegisters.
constexpr std::array<std::uint8_t, 8> kTimeIndex = {kSeconds,    kMinutes, kHours, kDayOfWeek,
                                                    kDayOfMonth, kMonth,   kYear,  kCentury};

constexpr std::uint8_t kAUpdateInProgress = 0x80, kADivider = 0x70, kARate = 0x0F, kADividerOn = 0x20;
constexpr std::uint8_t kBSet = 0x80, kBPeriodic = 0x40, kBAlarm = 0x20, kBUpdateEnded = 0x10, kBSquareWave = 0x08,
                       kBBinary = 0x04, kB24Hours = 0x02;
constexpr std::uint8_t kCInterrupt = 0x80, kCPeriodic = 0x40, kCAlarm = 0x20, kCUpdateEnded = 0x10;
constexpr std::uint8_t kInterrupts = kCPeriodic | kCAlarm | kCUpdateEnded;
constexpr std::uint8_t kDValid = 0x80;
constexpr std::uint8_t kDontCare = 0xC0;
constexpr std::uint8_t kPm = 0x80;
constexpr std::uint8_t kNumericCoprocessor = 0x02;

constexpr std::uint64_t kOscillatorHz = 32'768;
/// With a 32.768 kHz time base UIP rises 244 µs before an update that takes 1984 µs (data sheet, table 6).
constexpr Nanoseconds kUpdate = (244 + 1984) * 1000;
/// The first update comes half a second after the divider chain is let go.
constexpr std::int64_t kFirstUpdatePhase = kSecond / 2;

int time_slot(std::uint8_t index) {
  const auto* const found = std::find(kTimeIndex.begin(), kTimeIndex.end(), index);
  return found == kTimeIndex.end() ? -1 : static_cast<int>(found - kTimeIndex.begin());
}

std::int64_t floor_seconds(std::int64_t nanoseconds) {
  return nanoseconds / kSecond - (nanoseconds % kSecond < 0 ? 1 : 0);
}

}  // namespace

CmosRtc::CmosRtc(const Config& config, const time::VmClock& clock, time::TimerQueue& timers)
    : config_(config), clock_(clock), timer_(timers, [this](Nanoseconds now) { on_timer(now); }) {
  reset(bus::ResetKind::Cold);
}

void CmosRtc::reset(bus::ResetKind kind) {
  if (kind == bus::ResetKind::Cold) {
    index_ = 0;
    held_.fill(0);
    offset_ = config_.utc_base;
    fill_ram();
    ram_[kA] = kADividerOn | 0x06;
    ram_[kB] = kB24Hours;
    ram_[kD] = kDValid;
    synchronized_ = 0;
  }
  // What RESET# clears (data sheet, "Reset"); the time, the calendar and the RAM live on.
  ram_[kB] &= static_cast<std::uint8_t>(~(kBPeriodic | kBAlarm | kBUpdateEnded | kBSquareWave));
  ram_[kC] = 0;
  timer_.disarm();
  irq8_.lower();
}

/// What a PC's firmware leaves for operating systems: how much memory there is.
void CmosRtc::fill_ram() {
  constexpr std::uint64_t kKib = 1024, kMib = 1024 * kKib, kUnit = 64 * kKib;
  ram_.fill(0);
  const auto put = [this](unsigned index, std::uint64_t value, unsigned bytes) {
    value = std::min(value, (std::uint64_t{1} << (8 * bytes)) - 1);
    for (unsigned i = 0; i < bytes; ++i) ram_[index + i] = static_cast<std::uint8_t>(value >> (8 * i));
  };
  const auto above = [this](std::uint64_t start) {
    return config_.ram_below_4g > start ? config_.ram_below_4g - start : 0;
  };
  ram_[kEquipment] = kNumericCoprocessor;
  put(kBaseMemory, 640, 2);
  put(kExtendedMemory, above(kMib) / kKib, 2);
  put(kExtendedMemoryPost, above(kMib) / kKib, 2);
  put(kMemoryAbove16M, above(16 * kMib) / kUnit, 2);
  put(kMemoryAbove4G, config_.ram_above_4g / kUnit, 3);
  const unsigned sum = std::accumulate(ram_.begin() + 0x10, ram_.begin() + kChecksum, 0u);
  ram_[kChecksum] = static_cast<std::uint8_t>(sum >> 8);
  ram_[kChecksum + 1] = static_cast<std::uint8_t>(sum);
}

void CmosRtc::describe(state::Visitor& v) {
  v.field(1, "index", index_);
  v.field(2, "ram", std::as_writable_bytes(std::span(ram_)));
  v.field(3, "held", held_);
  v.field(4, "offset", offset_);
  v.field(5, "synchronized", synchronized_);
  constexpr std::int64_t kFarthest = std::int64_t{1} << 62;
  v.require(index_ < kBytes, "the RTC's index is out of range");
  v.require(offset_ > -kFarthest && offset_ < kFarthest, "the RTC shows an impossible year");
  v.require(synchronized_ >= 0, "the RTC was last read before time began");
  v.on_loaded([this] { update(clock_.now()); });
}

// --- Number formats -----------------------------------------------------------------------------------------------

std::uint8_t CmosRtc::encode(int value) const {
  if ((ram_[kB] & kBBinary) != 0) return static_cast<std::uint8_t>(value);
  return static_cast<std::uint8_t>(value / 10 % 10 << 4 | value % 10);
}

int CmosRtc::decode(std::uint8_t value) const {
  return (ram_[kB] & kBBinary) != 0 ? value : (value >> 4) * 10 + (value & 0xF);
}

std::uint8_t CmosRtc::encode_hour(int hour) const {
  if ((ram_[kB] & kB24Hours) != 0) return encode(hour);
  const int of_twelve = hour % 12 == 0 ? 12 : hour % 12;
  return static_cast<std::uint8_t>(encode(of_twelve) | (hour >= 12 ? kPm : 0));
}

int CmosRtc::decode_hour(std::uint8_t value) const {
  if ((ram_[kB] & kB24Hours) != 0) return decode(value);
  return decode(value & ~kPm & 0xFF) % 12 + ((value & kPm) != 0 ? 12 : 0);
}

CmosRtc::TimeRegisters CmosRtc::time_registers(Nanoseconds now) const {
  if (!counting()) return held_;
  const RtcTime time = to_calendar(floor_seconds(rtc_at(now)));
  return {encode(time.second), encode(time.minute), encode_hour(time.hour),  encode(time.weekday),
          encode(time.day),    encode(time.month),  encode(time.year % 100), encode(time.year / 100)};
}

void CmosRtc::set_time(const TimeRegisters& registers, Nanoseconds now, std::int64_t phase) {
  RtcTime time{};
  time.second = decode(registers[0]);
  time.minute = decode(registers[1]);
  time.hour = decode_hour(registers[2]);
  time.day = decode(registers[4]);
  time.month = decode(registers[5]);
  time.year = decode(registers[7]) * 100 + decode(registers[6]);
  // A clock that nobody has given a century has run since this one began.
  if (registers[7] == 0) time.year += 2000;
  // What lies outside 1840 to 2100 would not fit the nanoseconds.
  constexpr std::int64_t kFarthest = 4'102'444'800;
  offset_ = std::clamp(to_unix_seconds(time), -kFarthest, kFarthest) * kSecond + phase - now;
}

RtcAlarm CmosRtc::alarm() const {
  RtcAlarm alarm;
  if (ram_[kSecondsAlarm] < kDontCare) alarm.second = decode(ram_[kSecondsAlarm]);
  if (ram_[kMinutesAlarm] < kDontCare) alarm.minute = decode(ram_[kMinutesAlarm]);
  if (ram_[kHoursAlarm] < kDontCare) alarm.hour = decode_hour(ram_[kHoursAlarm]);
  return alarm;
}

// --- Time ---------------------------------------------------------------------------------------------------------

bool CmosRtc::divider_held() const {
  return (ram_[kA] & kADivider) != kADividerOn;
}

bool CmosRtc::counting() const {
  return (ram_[kB] & kBSet) == 0 && !divider_held();
}

/// In cycles of the oscillator; 0 for no periodic interrupt (data sheet, table 5).
std::uint64_t CmosRtc::periodic_interval() const {
  const unsigned rate = ram_[kA] & kARate;
  if (rate == 0 || divider_held()) return 0;
  return std::uint64_t{1} << (rate <= 2 ? rate + 6 : rate - 1);
}

void CmosRtc::synchronize(Nanoseconds now) {
  if (now <= synchronized_) return;
  if (const std::uint64_t interval = periodic_interval();
      interval != 0 &&
      time::ticks_at(now, kOscillatorHz) / interval != time::ticks_at(synchronized_, kOscillatorHz) / interval) {
    ram_[kC] |= kCPeriodic;
  }
  if (counting()) {
    const std::int64_t before = floor_seconds(rtc_at(synchronized_));
    const std::int64_t after = floor_seconds(rtc_at(now));
    if (after != before) {
      ram_[kC] |= kCUpdateEnded;
      const std::optional<std::int64_t> alarm_second = next_alarm(alarm(), before);
      if (alarm_second && *alarm_second <= after) ram_[kC] |= kCAlarm;
    }
  }
  synchronized_ = now;
}

Nanoseconds CmosRtc::next_interrupt(Nanoseconds now) const {
  const std::uint8_t waiting = ram_[kB] & ~ram_[kC] & kInterrupts;
  Nanoseconds next = time::kNever;
  if (const std::uint64_t interval = periodic_interval(); (waiting & kCPeriodic) != 0 && interval != 0) {
    const std::uint64_t tick = (time::ticks_at(now, kOscillatorHz) / interval + 1) * interval;
    next = std::min(next, time::time_of_tick(tick, kOscillatorHz));
  }
  if (!counting()) return next;
  const std::int64_t second = floor_seconds(rtc_at(now));
  if ((waiting & kCUpdateEnded) != 0) next = std::min(next, (second + 1) * kSecond - offset_);
  if ((waiting & kCAlarm) != 0) {
    if (const auto alarm_second = next_alarm(alarm(), second)) next = std::min(next, *alarm_second * kSecond - offset_);
  }
  return next;
}

void CmosRtc::update(Nanoseconds now) {
  synchronize(now);
  const bool requesting = (ram_[kB] & ram_[kC] & kInterrupts) != 0;
  ram_[kC] = static_cast<std::uint8_t>((ram_[kC] & kInterrupts) | (requesting ? kCInterrupt : 0));
  irq8_.set(requesting);
  timer_.arm(next_interrupt(now));
}

void CmosRtc::on_timer(Nanoseconds now) {
  const std::lock_guard guard(lock());
  update(now);
}

// --- Registers ----------------------------------------------------------------------------------------------------

void CmosRtc::write_control(std::uint8_t a, std::uint8_t b, Nanoseconds now) {
  synchronize(now);
  const bool was_counting = counting();
  const bool divider_was_held = divider_held();
  const TimeRegisters registers = time_registers(now);
  ram_[kA] = a;
  ram_[kB] = b;
  if (was_counting && !counting()) held_ = registers;
  if (divider_was_held && !divider_held()) {
    set_time(held_, now, kFirstUpdatePhase);
  } else if (!was_counting && counting()) {
    // SET stops the updates but not the divider: the seconds go on where they are.
    set_time(held_, now, rtc_at(now) - floor_seconds(rtc_at(now)) * kSecond);
  }
}

void CmosRtc::write_register(std::uint8_t index, std::uint8_t value, Nanoseconds now) {
  if (const int slot = time_slot(index); slot >= 0) {
    synchronize(now);
    TimeRegisters registers = time_registers(now);
    registers[static_cast<std::size_t>(slot)] = value;
    if (counting()) {
      set_time(registers, now, rtc_at(now) - floor_seconds(rtc_at(now)) * kSecond);
    } else {
      held_ = registers;
    }
    return;
  }
  switch (index) {
    case kA:
      write_control(value & (kADivider | kARate), ram_[kB], now);
      break;
    case kB:
      // SET aborts an update and so clears UIE (data sheet, register B).
      write_control(ram_[kA], (value & kBSet) != 0 ? value & ~kBUpdateEnded & 0xFF : value, now);
      break;
    case kC:
    case kD:  // read-only
      break;
    default:
      synchronize(now);
      ram_[index] = value;
  }
}

std::uint8_t CmosRtc::read_register(std::uint8_t index, Nanoseconds now) {
  if (const int slot = time_slot(index); slot >= 0) return time_registers(now)[static_cast<std::size_t>(slot)];
  switch (index) {
    case kA: {
      const std::int64_t phase = rtc_at(now) - floor_seconds(rtc_at(now)) * kSecond;
      const bool updating = counting() && phase >= kSecond - kUpdate;
      return ram_[kA] | (updating ? kAUpdateInProgress : 0);
    }
    case kC: {
      update(now);
      const std::uint8_t flags = ram_[kC];
      ram_[kC] = 0;
      update(now);
      return flags;
    }
    default:
      return ram_[index];
  }
}

std::uint8_t CmosRtc::read_byte(std::uint64_t offset) {
  return offset == 0 ? 0xFF : read_register(index_, clock_.now());
}

void CmosRtc::write_byte(std::uint64_t offset, std::uint8_t value) {
  if (offset == 0) {
    index_ = value & 0x7F;  // bit 7 would mask NMIs
    return;
  }
  const Nanoseconds now = clock_.now();
  write_register(index_, value, now);
  update(now);
}

}  // namespace doppel::devices
