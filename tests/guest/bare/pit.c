// The 8254: its modes, latches and number formats. Counter 2, whose gate and output are bits of port 61H, and no
// counter that would interrupt. Nothing here measures time.
#include "bare.h"

enum { kCounter = 0x42, kControl = 0x43, kGateAndSpeaker = 0x61, kOut = 0x20 };
enum { kLow = 0x10, kHigh = 0x20, kBoth = 0x30, kNullCount = 0x40, kStatusOut = 0x80 };

static void gate(bool high) {
  out8(kGateAndSpeaker, (uint8_t)((in8(kGateAndSpeaker) & 0x0C) | high));
}
static bool out(void) {
  return in8(kGateAndSpeaker) & kOut;
}
static void program(unsigned mode, unsigned access, bool bcd) {
  out8(kControl, (uint8_t)(0x80 | access | mode << 1 | bcd));
}
static void load(unsigned count) {
  out8(kCounter, (uint8_t)count);
  out8(kCounter, (uint8_t)(count >> 8));
}
static unsigned latched(void) {
  out8(kControl, 0x80);
  const unsigned low = in8(kCounter);
  return low | (unsigned)in8(kCounter) << 8;
}
static uint8_t status(void) {
  out8(kControl, 0xE8);
  return in8(kCounter);
}
static void until_out(bool high) {
  while (out() != high) {
  }
}
/// Until the counter has moved.
static void until_changed(void) {
  const unsigned first = latched();
  while (latched() == first) {
  }
}

static void statuses(void) {
  static const uint8_t kAccess[] = {kLow, kHigh, kBoth};
  for (unsigned mode = 0; mode < 6; ++mode) {
    for (unsigned i = 0; i < 3; ++i) {
      for (unsigned bcd = 0; bcd < 2; ++bcd) {
        program(mode, kAccess[i], bcd);
        CHECK_EQUAL("PIT: status", status() & 0x3F, kAccess[i] | mode << 1 | bcd);
        // Mode 0 starts low, all others high. QEMU's output and count go on from what they were.
        if (under_tcg()) continue;
        CHECK_EQUAL("PIT: status, output", status() & kStatusOut, mode == 0 ? 0 : kStatusOut);
        CHECK_EQUAL("PIT: status, no count", status() & kNullCount, kNullCount);
      }
    }
  }
  gate(true);
  program(0, kBoth, false);
  load(0xFFFF);
  while (status() & kNullCount) {
  }
  CHECK_EQUAL("PIT: status, counting", status(), kBoth);
}

static void modes(void) {
  // 0: low until the count is over, then high for ever; the gate stops it.
  gate(true);
  program(0, kBoth, false);
  CHECK_EQUAL("mode 0: low", out(), false);
  load(2000);
  until_out(true);
  CHECK_EQUAL("mode 0: high", out(), true);
  load(60000);
  CHECK_EQUAL("mode 0: low again", out(), false);
  gate(false);
  unsigned stopped = latched();
  for (unsigned i = 0; i < 20; ++i) in8(0x80);
  if (!under_tcg()) CHECK_EQUAL("mode 0: stopped", latched(), stopped);
  gate(true);
  until_changed();
  check(latched() < stopped, "mode 0: goes on", latched(), stopped);

  // 1: waits for the gate to rise.
  gate(false);
  program(1, kBoth, false);
  CHECK_EQUAL("mode 1: high", out(), true);
  load(30000);
  for (unsigned i = 0; i < 20; ++i) in8(0x80);
  CHECK_EQUAL("mode 1: waits", out(), true);
  gate(true);
  until_out(false);
  gate(false);  // does not stop it
  until_out(true);
  gate(true);
  until_out(false);
  until_out(true);

  // 2: starts again by itself; high but for one tick.
  gate(true);
  program(2, kBoth, false);
  load(2000);
  for (unsigned wraps = 0; wraps < 3;) {
    const unsigned first = latched();
    unsigned next = latched();
    if (next == first) continue;
    check(next <= 2000 && next >= 1, "mode 2: in its range", next, 2000);
    if (next > first) ++wraps;
  }
  gate(false);
  CHECK_EQUAL("mode 2: high while stopped", out(), true);
  gate(true);

  // 3: half and half; counts by two.
  program(3, kBoth, false);
  CHECK_EQUAL("mode 3: high", out(), true);
  load(4000);
  for (unsigned i = 0; i < 3; ++i) {
    until_out(false);
    until_out(true);
  }
  for (unsigned i = 0; i < 200; ++i) {
    const unsigned value = latched();
    if ((value & 1) || value > 4000) check(false, "mode 3: even", value, 4000);
  }
  gate(false);
  CHECK_EQUAL("mode 3: high while stopped", out(), true);

  // 4: software strobe; goes on past zero, without another strobe. High before and after.
  gate(true);
  program(4, kBoth, false);
  CHECK_EQUAL("mode 4: high", out(), true);
  load(500);
  while (latched() <= 500) {
  }
  CHECK_EQUAL("mode 4: high behind the strobe", out(), true);

  // 5: hardware strobe, by the gate.
  gate(false);
  program(5, kBoth, false);
  load(500);
  CHECK_EQUAL("mode 5: high", out(), true);
  gate(true);
  while (latched() <= 500) {
  }
  CHECK_EQUAL("mode 5: high behind the strobe", out(), true);
}

static void latches(void) {
  gate(true);
  program(2, kBoth, false);
  load(0);  // 65536
  until_changed();
  // A latch holds until it is read, whatever comes after.
  out8(kControl, 0x80);
  for (unsigned i = 0; i < 50; ++i) in8(0x80);
  out8(kControl, 0x80);
  const unsigned low = in8(kCounter), first = low | (unsigned)in8(kCounter) << 8;
  const unsigned next = latched();
  check(next != first, "latch: held the first", next, first);
  // Status first, then the count, when both are latched.
  out8(kControl, 0xC8);
  CHECK_EQUAL("read-back: status first", in8(kCounter) & 0x3F, kBoth | 2 << 1);
  const unsigned count = in8(kCounter) | (unsigned)in8(kCounter) << 8;
  check(count != 0, "read-back: then the count", count, 0);
  // One byte only.
  program(2, kHigh, false);
  out8(kCounter, 0x10);
  until_changed();
  for (unsigned i = 0; i < 100; ++i) {
    const uint8_t high = in8(kCounter);
    if (high > 0x10) check(false, "high byte alone", high, 0x10);
  }
  program(2, kLow, false);
  out8(kCounter, 200);
  for (unsigned i = 0; i < 100; ++i) {
    out8(kControl, 0x80);
    const uint8_t value = in8(kCounter);
    if (i > 10 && value > 200) check(false, "low byte alone", value, 200);
  }
  if (under_tcg()) return;  // QEMU counts in binary
  // Decimal digits.
  program(2, kBoth, true);
  load(0x9000);
  until_changed();
  for (unsigned i = 0; i < 200; ++i) {
    const unsigned value = latched();
    bool decimal = value <= 0x9000;
    for (unsigned digit = 0; digit < 16; digit += 4) decimal = decimal && (value >> digit & 15) <= 9;
    if (!decimal) check(false, "BCD", value, 0x9000);
  }
}

void test_pit(void) {
  statuses();
  if (!under_tcg()) modes();  // QEMU's gate stops nothing
  latches();
  gate(false);
}
