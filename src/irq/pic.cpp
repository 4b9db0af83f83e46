#include "irq/pic.h"

namespace doppel::irq {

// IRQ 0, 1, 2, 8 and 13 are edge-sensitive for ever (82371AB, 4.4.6 and 4.4.7).
Pic::Pic() : master_(0xF8), slave_(0xDE) {
  master_.set_cascade_input(kCascade);
}

void Pic::reset() {
  const std::lock_guard guard(mutex_);
  master_.reset();
  slave_.reset();
  update();
}

void Pic::describe(state::Visitor& v) {
  v.field(1, "master", master_);
  v.field(2, "slave", slave_);
  v.on_loaded([this] {
    const std::lock_guard guard(mutex_);
    update();
  });
}

void Pic::update() {
  master_.set_input(kCascade, slave_.output());
  intr_.set(master_.output());
}

void Pic::set_input(unsigned irq, bool high) {
  if (irq > 15 || irq == kCascade) return;
  const std::lock_guard guard(mutex_);
  (irq < 8 ? master_ : slave_).set_input(irq & 7, high);
  update();
}

std::uint8_t Pic::acknowledge() {
  const std::lock_guard guard(mutex_);
  const int pin = master_.acknowledge();
  std::uint8_t vector = 0;
  if (pin == static_cast<int>(kCascade)) {
    const int slave_pin = slave_.acknowledge();
    vector = slave_.vector(slave_pin < 0 ? 7 : static_cast<unsigned>(slave_pin));
    // The slave drops its output between two requests, or the master would miss the edge of the second.
    master_.set_input(kCascade, false);
  } else {
    vector = master_.vector(pin < 0 ? 7 : static_cast<unsigned>(pin));
  }
  update();
  return vector;
}

std::uint8_t Pic::read(Chip chip, unsigned a0) {
  const std::lock_guard guard(mutex_);
  const std::uint8_t value = (chip == kMaster ? master_ : slave_).read(a0);
  update();  // a poll acknowledges
  return value;
}

void Pic::write(Chip chip, unsigned a0, std::uint8_t value) {
  const std::lock_guard guard(mutex_);
  (chip == kMaster ? master_ : slave_).write(a0, value);
  update();
}

std::uint8_t Pic::elcr(Chip chip) {
  const std::lock_guard guard(mutex_);
  return (chip == kMaster ? master_ : slave_).elcr();
}

void Pic::set_elcr(Chip chip, std::uint8_t value) {
  const std::lock_guard guard(mutex_);
  (chip == kMaster ? master_ : slave_).set_elcr(value);
  update();
}

}  // namespace doppel::irq
