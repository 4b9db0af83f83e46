#include "irq/i8259.h"

namespace doppel::irq {
namespace {

constexpr std::uint8_t kIcw1Ic4 = 0x01, kIcw1Single = 0x02, kIcw1 = 0x10;
constexpr std::uint8_t kIcw4AutoEoi = 0x02, kIcw4SpecialFullyNested = 0x10;
constexpr std::uint8_t kOcw3 = 0x08, kOcw3ReadIsr = 0x01, kOcw3ReadRegister = 0x02, kOcw3Poll = 0x04,
                       kOcw3SpecialMask = 0x20, kOcw3EnableSpecialMask = 0x40;

/// OCW2, bits R, SL and EOI.
enum class Ocw2 : std::uint8_t {
  ClearRotateInAutoEoi = 0,
  NonSpecificEoi = 1,
  NoOperation = 2,
  SpecificEoi = 3,
  SetRotateInAutoEoi = 4,
  RotateOnNonSpecificEoi = 5,
  SetPriority = 6,
  RotateOnSpecificEoi = 7,
};

constexpr std::uint8_t mask_of(unsigned pin) {
  return static_cast<std::uint8_t>(1u << pin);
}

}  // namespace

void I8259::reset() {
  const std::uint8_t elcr_mask = elcr_mask_;
  const std::uint8_t cascade = cascade_;
  *this = I8259(elcr_mask);
  cascade_ = cascade;
}

void I8259::describe(state::Visitor& v) {
  v.field(1, "lines", lines_);
  v.field(2, "irr", irr_);
  v.field(3, "imr", imr_);
  v.field(4, "isr", isr_);
  v.field(5, "elcr", elcr_);
  v.field(6, "vector_base", vector_base_);
  v.field(7, "lowest_priority", lowest_priority_);
  v.field(8, "expect", expect_);
  v.field(9, "needs_icw3", needs_icw3_);
  v.field(10, "needs_icw4", needs_icw4_);
  v.field(11, "auto_eoi", auto_eoi_);
  v.field(12, "rotate_on_auto_eoi", rotate_on_auto_eoi_);
  v.field(13, "special_fully_nested", special_fully_nested_);
  v.field(14, "special_mask", special_mask_);
  v.field(15, "read_isr", read_isr_);
  v.field(16, "poll", poll_);
  v.require(lowest_priority_ < 8, "an interrupt controller's priorities start at an input that it does not have");
  v.require(expect_ <= Expect::Icw4, "an interrupt controller expects an unknown command word");
}

void I8259::set_input(unsigned pin, bool high) {
  const std::uint8_t mask = mask_of(pin);
  const bool was_high = (lines_ & mask) != 0;
  const bool level = (level_sensitive() & mask) != 0;
  // The request of an edge stays latched when the line falls, so that devices may pulse.
  if (high && (level || !was_high)) irr_ |= mask;
  if (!high && level) irr_ &= static_cast<std::uint8_t>(~mask);
  lines_ = static_cast<std::uint8_t>(high ? lines_ | mask : lines_ & ~mask);
}

void I8259::set_elcr(std::uint8_t value) {
  elcr_ = value & elcr_mask_;
  irr_ = static_cast<std::uint8_t>((irr_ & ~elcr_) | (lines_ & elcr_));
}

int I8259::highest_priority(std::uint8_t pins) const {
  for (unsigned i = 1; i <= 8 && pins != 0; ++i) {
    const unsigned pin = (lowest_priority_ + i) & 7;
    if ((pins & mask_of(pin)) != 0) return static_cast<int>(pin);
  }
  return -1;
}

int I8259::requesting_pin() const {
  const int pin = highest_priority(static_cast<std::uint8_t>(irr_ & ~imr_));
  if (pin < 0) return -1;
  std::uint8_t blocking = isr_;
  // In special mask mode a masked level in service blocks nothing (data sheet, "Special Mask Mode").
  if (special_mask_) blocking &= static_cast<std::uint8_t>(~imr_);
  if (special_fully_nested_) blocking &= static_cast<std::uint8_t>(~cascade_);
  const int in_service = highest_priority(blocking);
  if (in_service < 0) return pin;
  if (special_mask_) return (blocking & mask_of(static_cast<unsigned>(pin))) == 0 ? pin : -1;
  return priority_of(static_cast<unsigned>(pin)) < priority_of(static_cast<unsigned>(in_service)) ? pin : -1;
}

int I8259::acknowledge() {
  const int pin = requesting_pin();
  if (pin < 0) return -1;
  const std::uint8_t mask = mask_of(static_cast<unsigned>(pin));
  // A level stays requested as long as its line is high.
  if ((level_sensitive() & mask) == 0) irr_ &= static_cast<std::uint8_t>(~mask);
  if (!auto_eoi_) {
    isr_ |= mask;
  } else if (rotate_on_auto_eoi_) {
    lowest_priority_ = static_cast<std::uint8_t>(pin);
  }
  return pin;
}

std::uint8_t I8259::poll() {
  poll_ = false;
  const int pin = acknowledge();
  return pin < 0 ? 0 : static_cast<std::uint8_t>(0x80 | pin);
}

std::uint8_t I8259::read(unsigned a0) {
  if (poll_) return poll();
  if (a0 == 1) return imr_;
  return read_isr_ ? isr_ : irr_;
}

void I8259::begin_initialization(std::uint8_t icw1) {
  // The edge sense circuit is reset: a line that is high must fall before it can request (data sheet, ICW1 a).
  irr_ = lines_ & level_sensitive();
  imr_ = 0;
  isr_ = 0;
  lowest_priority_ = 7;
  special_mask_ = false;
  read_isr_ = false;
  poll_ = false;
  auto_eoi_ = false;
  rotate_on_auto_eoi_ = false;
  special_fully_nested_ = false;
  needs_icw3_ = (icw1 & kIcw1Single) == 0;
  needs_icw4_ = (icw1 & kIcw1Ic4) != 0;
  expect_ = Expect::Icw2;
}

void I8259::write_ocw2(std::uint8_t value) {
  const unsigned level = value & 7;
  const auto end_of_interrupt = [this](int pin, bool rotate) {
    if (pin < 0) return;
    isr_ &= static_cast<std::uint8_t>(~mask_of(static_cast<unsigned>(pin)));
    if (rotate) lowest_priority_ = static_cast<std::uint8_t>(pin);
  };
  // A non-specific EOI passes over levels that special mask mode has masked.
  const auto highest_in_service = [this] {
    return highest_priority(special_mask_ ? static_cast<std::uint8_t>(isr_ & ~imr_) : isr_);
  };
  switch (static_cast<Ocw2>(value >> 5)) {
    case Ocw2::ClearRotateInAutoEoi:
      rotate_on_auto_eoi_ = false;
      break;
    case Ocw2::NonSpecificEoi:
      end_of_interrupt(highest_in_service(), false);
      break;
    case Ocw2::NoOperation:
      break;
    case Ocw2::SpecificEoi:
      end_of_interrupt(static_cast<int>(level), false);
      break;
    case Ocw2::SetRotateInAutoEoi:
      rotate_on_auto_eoi_ = true;
      break;
    case Ocw2::RotateOnNonSpecificEoi:
      end_of_interrupt(highest_in_service(), true);
      break;
    case Ocw2::SetPriority:
      lowest_priority_ = static_cast<std::uint8_t>(level);
      break;
    case Ocw2::RotateOnSpecificEoi:
      end_of_interrupt(static_cast<int>(level), true);
      break;
  }
}

void I8259::write_ocw3(std::uint8_t value) {
  if ((value & kOcw3Poll) != 0) poll_ = true;
  if ((value & kOcw3ReadRegister) != 0) read_isr_ = (value & kOcw3ReadIsr) != 0;
  if ((value & kOcw3EnableSpecialMask) != 0) special_mask_ = (value & kOcw3SpecialMask) != 0;
}

void I8259::write(unsigned a0, std::uint8_t value) {
  if (a0 == 0) {
    if ((value & kIcw1) != 0) {
      begin_initialization(value);
    } else if ((value & kOcw3) != 0) {
      write_ocw3(value);
    } else {
      write_ocw2(value);
    }
    return;
  }
  switch (expect_) {
    case Expect::Ocw1:
      imr_ = value;
      break;
    case Expect::Icw2:
      vector_base_ = value & 0xF8;
      expect_ = needs_icw3_ ? Expect::Icw3 : needs_icw4_ ? Expect::Icw4 : Expect::Ocw1;
      break;
    case Expect::Icw3:  // the cascade is wired: IRQ 2 of the master
      expect_ = needs_icw4_ ? Expect::Icw4 : Expect::Ocw1;
      break;
    case Expect::Icw4:
      auto_eoi_ = (value & kIcw4AutoEoi) != 0;
      special_fully_nested_ = (value & kIcw4SpecialFullyNested) != 0;
      expect_ = Expect::Ocw1;
      break;
  }
}

}  // namespace doppel::irq
