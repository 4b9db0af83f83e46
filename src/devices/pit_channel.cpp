#include "devices/pit_channel.h"

namespace doppel::devices {
namespace {

constexpr std::uint8_t kStatusOut = 0x80, kStatusNullCount = 0x40;

}  // namespace

void PitChannel::describe(state::Visitor& v) {
  v.field(1, "mode", mode_);
  v.field(2, "access", access_);
  v.field(3, "bcd", bcd_);
  v.field(4, "gate", gate_);
  v.field(5, "count", count_);
  v.field(6, "pending_count", pending_count_);
  v.field(7, "pending_tick", pending_tick_);
  v.field(8, "counting", counting_);
  v.field(9, "start_tick", start_tick_);
  v.field(10, "frozen", frozen_);
  v.field(11, "low_byte", low_byte_);
  v.field(12, "write_high_next", write_high_next_);
  v.field(13, "read_high_next", read_high_next_);
  v.field(14, "count_latched", count_latched_);
  v.field(15, "status_latched", status_latched_);
  v.field(16, "latched_count", latched_count_);
  v.field(17, "latched_status", latched_status_);
  v.require(mode_ < 6, "a PIT counter is in an unknown mode");
  v.require(access_ >= Access::Low && access_ <= Access::LowThenHigh, "a PIT counter has an unknown access mode");
  v.require(count_ <= 65536 && pending_count_ <= 65536, "a PIT count has more than 16 bits");
  v.require(!counting_ || count_ != 0, "a PIT counter counts without a count");
}

std::uint64_t PitChannel::elapsed(std::uint64_t tick) const {
  if (!counting_) return frozen_;
  return tick > start_tick_ ? tick - start_tick_ : 0;
}

void PitChannel::synchronize(std::uint64_t tick) {
  if (!periodic() || pending_count_ == 0 || !counting_ || tick < pending_tick_) return;
  count_ = pending_count_;
  pending_count_ = 0;
  start_tick_ = pending_tick_;
}

void PitChannel::write_control(std::uint8_t control) {
  access_ = static_cast<Access>((control >> 4) & 3);
  const std::uint8_t mode = (control >> 1) & 7;
  mode_ = mode > 5 ? mode - 4 : mode;  // modes 2 and 3 have two encodings
  bcd_ = (control & 1) != 0;
  count_ = 0;
  pending_count_ = 0;
  counting_ = false;
  frozen_ = 0;
  write_high_next_ = false;
  read_high_next_ = false;
  count_latched_ = false;
  status_latched_ = false;
}

void PitChannel::write_count(std::uint8_t value, std::uint64_t tick) {
  synchronize(tick);
  std::uint16_t count = 0;
  switch (access_) {
    case Access::Low:
      count = value;
      break;
    case Access::High:
      count = static_cast<std::uint16_t>(value << 8);
      break;
    default:
      write_high_next_ = !write_high_next_;
      if (write_high_next_) {
        low_byte_ = value;
        if (mode_ == 0) {
          // The first byte stops the counting; OUT goes low (data sheet, mode 0).
          counting_ = false;
          count_ = 0;
          frozen_ = 0;
        }
        return;
      }
      count = static_cast<std::uint16_t>(value << 8 | low_byte_);
      break;
  }
  const std::uint32_t modulus = bcd_ ? 10000 : 65536;
  const std::uint32_t number = bcd_ ? from_bcd(count) % modulus : count;
  load(number == 0 ? modulus : number, tick);
}

void PitChannel::load(std::uint32_t count, std::uint64_t tick) {
  if (triggered_by_gate()) {
    pending_count_ = count;  // until the trigger
    return;
  }
  if (periodic() && count_ != 0 && counting_) {
    pending_count_ = count;
    const std::uint64_t since = elapsed(tick);
    pending_tick_ = start_tick_ + (since / count_ + 1) * count_;
    return;
  }
  // Loaded by the CLK pulse after the write.
  count_ = count;
  pending_count_ = 0;
  frozen_ = 0;
  counting_ = gate_;
  start_tick_ = tick + 1;
}

void PitChannel::set_gate(bool high, std::uint64_t tick) {
  if (high == gate_) return;
  synchronize(tick);
  gate_ = high;
  if (triggered_by_gate()) {
    if (!high || (count_ == 0 && pending_count_ == 0)) return;
    if (pending_count_ != 0) count_ = pending_count_;
    pending_count_ = 0;
    counting_ = true;
    start_tick_ = tick + 1;
    return;
  }
  if (count_ == 0) return;
  if (!high) {
    frozen_ = elapsed(tick);
    counting_ = false;
    return;
  }
  // Modes 2 and 3 start a new period, modes 0 and 4 go on where they stopped.
  if (periodic()) {
    if (pending_count_ != 0) count_ = pending_count_;
    pending_count_ = 0;
    start_tick_ = tick + 1;
  } else {
    start_tick_ = tick > frozen_ ? tick - frozen_ : 0;
  }
  counting_ = true;
}

bool PitChannel::out(std::uint64_t tick) {
  synchronize(tick);
  if (count_ == 0) return mode_ != 0;
  if (triggered_by_gate() && counting_ && tick < start_tick_) return true;
  if (!counting_ && mode_ != 0 && mode_ != 4) return true;
  return arithmetic().out(elapsed(tick));
}

std::optional<std::uint64_t> PitChannel::next_rise(std::uint64_t tick) {
  synchronize(tick);
  if (!counting_) return std::nullopt;
  const std::optional<std::uint64_t> rise = arithmetic().next_rise(elapsed(tick));
  if (!rise) return std::nullopt;
  return start_tick_ + *rise;
}

std::uint16_t PitChannel::current_value(std::uint64_t tick) {
  synchronize(tick);
  const std::uint16_t value = count_ == 0 ? 0 : arithmetic().value(elapsed(tick));
  return bcd_ ? to_bcd(value) : value;
}

bool PitChannel::null_count(std::uint64_t tick) const {
  return count_ == 0 || pending_count_ != 0 || (counting_ && tick < start_tick_);
}

void PitChannel::latch_count(std::uint64_t tick) {
  if (count_latched_) return;  // a second latch before the read is ignored
  latched_count_ = current_value(tick);
  count_latched_ = true;
}

void PitChannel::latch_status(std::uint64_t tick) {
  if (status_latched_) return;
  synchronize(tick);
  latched_status_ = static_cast<std::uint8_t>(static_cast<unsigned>(access_) << 4 | mode_ << 1 | (bcd_ ? 1 : 0));
  if (out(tick)) latched_status_ |= kStatusOut;
  if (null_count(tick)) latched_status_ |= kStatusNullCount;
  status_latched_ = true;
}

std::uint8_t PitChannel::read(std::uint64_t tick) {
  if (status_latched_) {
    status_latched_ = false;
    return latched_status_;
  }
  const std::uint16_t value = count_latched_ ? latched_count_ : current_value(tick);
  if (access_ == Access::LowThenHigh) {
    read_high_next_ = !read_high_next_;
    if (read_high_next_) return static_cast<std::uint8_t>(value);
    count_latched_ = false;
    return static_cast<std::uint8_t>(value >> 8);
  }
  count_latched_ = false;
  return static_cast<std::uint8_t>(access_ == Access::Low ? value : value >> 8);
}

}  // namespace doppel::devices
