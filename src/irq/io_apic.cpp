#include "irq/io_apic.h"

namespace doppel::irq {
namespace {

constexpr std::uint32_t kVersion = 0x20;
enum Offset : std::uint64_t { kIoregsel = 0x00, kIowin = 0x10, kEoir = 0x40 };
enum Index : std::uint8_t { kId = 0x00, kVer = 0x01, kArb = 0x02, kRedirection = 0x10 };

// A redirection table entry (82093AA, 3.2.4). Polarity (bit 13) says how the board drives the pin; lines here carry
// "asserted", so nothing depends on it.
constexpr std::uint64_t kRemoteIrr = 1 << 14, kLevel = 1 << 15, kMasked = 1 << 16, kLogical = 1 << 11;
constexpr std::uint64_t kReadOnly = 1 << 12 | kRemoteIrr;
constexpr std::uint64_t kWritable = 0xFF00'0000'0001'AFFF;

}  // namespace

IoApic::IoApic(MessageSink& bus) : bus_(bus) {
  reset();
}

void IoApic::reset() {
  const std::lock_guard guard(mutex_);
  ioregsel_ = 0;
  id_ = 0;
  lines_ = 0;
  redirection_.fill(kMasked);
}

void IoApic::describe(state::Visitor& v) {
  v.field(1, "ioregsel", ioregsel_);
  v.field(2, "id", id_);
  v.field(3, "lines", lines_);
  v.field(4, "redirection", redirection_);
}

void IoApic::set_input(unsigned pin, bool high) {
  if (pin >= kPins) return;
  const std::lock_guard guard(mutex_);
  const std::uint32_t mask = 1u << pin;
  const bool rises = high && (lines_ & mask) == 0;
  lines_ = high ? lines_ | mask : lines_ & ~mask;
  if (!rises) return;
  if ((redirection_[pin] & kLevel) != 0) {
    service_level(pin);
  } else if ((redirection_[pin] & kMasked) == 0) {
    send(pin);  // an edge on a masked pin is lost (82093AA, 3.2.4, interrupt mask)
  }
}

void IoApic::service_level(unsigned pin) {
  const std::uint64_t entry = redirection_[pin];
  if ((lines_ & (1u << pin)) == 0 || (entry & kLevel) == 0 || (entry & (kMasked | kRemoteIrr)) != 0) return;
  const auto mode = static_cast<DeliveryMode>((entry >> 8) & 7);
  // Only these two are ever answered by an EOI.
  if (mode == DeliveryMode::Fixed || mode == DeliveryMode::LowestPriority) redirection_[pin] |= kRemoteIrr;
  send(pin);
}

void IoApic::send(unsigned pin) {
  const std::uint64_t entry = redirection_[pin];
  Message message;
  message.vector = static_cast<std::uint8_t>(entry);
  message.delivery_mode = static_cast<DeliveryMode>((entry >> 8) & 7);
  message.trigger_mode = (entry & kLevel) != 0 ? TriggerMode::Level : TriggerMode::Edge;
  const auto destination = static_cast<std::uint8_t>(entry >> 56);
  if ((entry & kLogical) != 0) {
    message.destination_mode = DestinationMode::Logical;
    message.destination = destination;
  } else {
    message.destination = widen_destination(destination);
  }
  bus_.deliver(message);
}

void IoApic::acknowledge_vector(std::uint8_t vector) {
  for (unsigned pin = 0; pin < kPins; ++pin) {
    const std::uint64_t entry = redirection_[pin];
    if ((entry & kRemoteIrr) == 0 || static_cast<std::uint8_t>(entry) != vector) continue;
    redirection_[pin] &= ~kRemoteIrr;
    service_level(pin);
  }
}

void IoApic::end_of_interrupt(std::uint8_t vector) {
  const std::lock_guard guard(mutex_);
  acknowledge_vector(vector);
}

std::uint32_t IoApic::read_register() const {
  switch (ioregsel_) {
    case kId:
    case kArb:
      return id_ << 24;
    case kVer:
      return kVersion | (kPins - 1) << 16;
    default:
      break;
  }
  const unsigned half = ioregsel_ - kRedirection;
  if (ioregsel_ < kRedirection || half >= 2 * kPins) return 0;
  return static_cast<std::uint32_t>(redirection_[half / 2] >> (half % 2 * 32));
}

void IoApic::write_register(std::uint32_t value) {
  if (ioregsel_ == kId) id_ = (value >> 24) & 0xF;
  const unsigned half = ioregsel_ - kRedirection;
  if (ioregsel_ >= kRedirection && half < 2 * kPins) write_redirection(half / 2, half % 2, value);
}

void IoApic::write_redirection(unsigned pin, unsigned half, std::uint32_t value) {
  std::uint64_t& entry = redirection_[pin];
  const std::uint64_t half_mask = half == 0 ? 0xFFFF'FFFF : 0xFFFF'FFFF'0000'0000;
  const std::uint64_t written = static_cast<std::uint64_t>(value) << (half * 32);
  entry = (entry & ~(half_mask & kWritable)) | (written & half_mask & kWritable);
  // Making the pin edge-sensitive clears remote IRR: how software ends an interrupt without an EOI register.
  if ((entry & kLevel) == 0) entry &= ~kReadOnly;
  service_level(pin);
}

std::uint32_t IoApic::read(std::uint64_t offset) {
  const std::lock_guard guard(mutex_);
  switch (offset) {
    case kIoregsel:
      return ioregsel_;
    case kIowin:
      return read_register();
    default:
      return 0;
  }
}

void IoApic::write(std::uint64_t offset, std::uint32_t value) {
  const std::lock_guard guard(mutex_);
  switch (offset) {
    case kIoregsel:
      ioregsel_ = static_cast<std::uint8_t>(value);
      break;
    case kIowin:
      write_register(value);
      break;
    case kEoir:
      acknowledge_vector(static_cast<std::uint8_t>(value));
      break;
    default:
      break;
  }
}

}  // namespace doppel::irq
