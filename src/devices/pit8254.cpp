#include "devices/pit8254.h"

#include <mutex>

namespace doppel::devices {
namespace {

constexpr std::uint64_t kControl = 3;
/// Bits 7 and 6 of a control word.
constexpr unsigned kReadBack = 3;
constexpr std::uint8_t kAccessBits = 0x30;
constexpr std::uint8_t kReadBackNoCount = 0x20, kReadBackNoStatus = 0x10;

constexpr std::uint8_t kPort61Gate2 = 0x01, kPort61Writable = 0x0F, kPort61Refresh = 0x10, kPort61Out2 = 0x20;
/// The refresh request toggles bit 4 of port 61h as fast as on a PC AT.
constexpr time::Nanoseconds kRefreshPeriod = 15'085;

}  // namespace

Pit8254::Pit8254(const time::VmClock& clock, time::TimerQueue& timers)
    : clock_(clock), timer_(timers, [this](time::Nanoseconds now) { on_timer(now); }) {}

void Pit8254::reset(bus::ResetKind) {
  for (unsigned i = 0; i < channels_.size(); ++i) channels_[i].reset(i != 2);
  port61_value_ = 0;
  next_rise_ = kNoRise;
  timer_.disarm();
  irq0_.lower();
}

void Pit8254::describe(state::Visitor& v) {
  v.field(1, "channels", channels_);
  v.field(2, "port61", port61_value_);
  v.field(3, "next_rise", next_rise_);
  v.on_loaded([this] {
    irq0_.set(channels_[0].out(tick()));
    timer_.arm(next_rise_ == kNoRise ? time::kNever : time::time_of_tick(next_rise_, kClockHz));
  });
}

void Pit8254::arm(std::uint64_t tick) {
  next_rise_ = channels_[0].next_rise(tick).value_or(kNoRise);
  timer_.arm(next_rise_ == kNoRise ? time::kNever : time::time_of_tick(next_rise_, kClockHz));
}

void Pit8254::update_irq0(std::uint64_t tick) {
  irq0_.set(channels_[0].out(tick));
  arm(tick);
}

void Pit8254::on_timer(time::Nanoseconds now) {
  const std::lock_guard guard(lock());
  const std::uint64_t tick = time::ticks_at(now, kClockHz);
  if (tick < next_rise_) return;  // programmed anew since the queue found it due
  irq0_.lower();
  irq0_.raise();
  arm(tick);
}

std::uint8_t Pit8254::read_port(std::uint64_t offset) {
  return offset == kControl ? 0xFF : channels_[offset & 3].read(tick());
}

void Pit8254::read_back(std::uint8_t command, std::uint64_t tick) {
  for (unsigned i = 0; i < channels_.size(); ++i) {
    if ((command & (2u << i)) == 0) continue;
    if ((command & kReadBackNoCount) == 0) channels_[i].latch_count(tick);
    if ((command & kReadBackNoStatus) == 0) channels_[i].latch_status(tick);
  }
}

void Pit8254::write_port(std::uint64_t offset, std::uint8_t value) {
  const std::uint64_t now = tick();
  if (offset != kControl) {
    channels_[offset & 3].write_count(value, now);
    if (offset == 0) update_irq0(now);
    return;
  }
  const unsigned select = value >> 6;
  if (select == kReadBack) {
    read_back(value, now);
  } else if ((value & kAccessBits) == 0) {
    channels_[select].latch_count(now);
  } else {
    channels_[select].write_control(value & 0x3F);
    if (select == 0) update_irq0(now);
  }
}

std::uint8_t Pit8254::read_port61(std::uint64_t) {
  std::uint8_t value = port61_value_;
  if ((clock_.now() / kRefreshPeriod) % 2 != 0) value |= kPort61Refresh;
  if (channels_[2].out(tick())) value |= kPort61Out2;
  return value;
}

void Pit8254::write_port61(std::uint64_t, std::uint8_t value) {
  port61_value_ = value & kPort61Writable;
  channels_[2].set_gate((value & kPort61Gate2) != 0, tick());
}

}  // namespace doppel::devices
