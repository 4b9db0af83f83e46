// The IOAPIC (82093AA): level and edge, remote IRR, masks, delivery modes. Its sources are the serial port, whose
// transmitter asks for an interrupt as long as it is idle and allowed to, and the PIT.
#include "bare.h"

enum { kVector = 0x58, kEoi = 0xB0, kSerialPin = 4, kPitPin = 2 };
enum { kActiveLow = 1 << 13, kRemoteIrr = 1 << 14, kLevel = 1 << 15, kMasked = 1 << 16, kLogical = 1 << 11 };

static volatile unsigned count, nmis;
static volatile bool keeps, quiets;

static volatile uint32_t* io_apic(unsigned reg) {
  return (volatile uint32_t*)(0xFEC00000ULL + reg);
}
static uint32_t read_io(unsigned index) {
  *io_apic(0) = index;
  return *io_apic(0x10);
}
static void write_io(unsigned index, uint32_t value) {
  *io_apic(0) = index;
  *io_apic(0x10) = value;
}
static void redirect(unsigned pin, uint32_t low) {
  write_io(0x10 + 2 * pin + 1, 0);
  write_io(0x10 + 2 * pin, low);
}
static uint32_t entry(unsigned pin) {
  return read_io(0x10 + 2 * pin);
}

static void serial_interrupt(bool on) {
  while ((in8(0x3FD) & 0x60) != 0x60) {
  }
  out8(0x3FC, 8);  // OUT2: the PC's gate to the interrupt controllers
  out8(0x3F9, on ? 2 : 0);
}
/// Ends the request: the identification register says that it is the transmitter's.
static void acknowledge_serial(void) {
  in8(0x3FA);
}

static bool event(struct Frame* frame) {
  if (frame->vector == 2) {
    ++nmis;
    return true;
  }
  if (frame->vector < 0x50 || frame->vector > 0x7F) return false;
  ++count;
  if (quiets) acknowledge_serial();
  if (!keeps) *apic(kEoi) = 0;
  return true;
}

static void open_window(void) {
  __asm__ volatile("sti; nop; nop; nop; cli" : : : "memory");
}

static void registers(void) {
  CHECK_EQUAL("IOAPIC: pins", read_io(1) >> 16 & 0xFF, 23);
  write_io(0, 0x05000000);
  CHECK_EQUAL("IOAPIC: ID", read_io(0) >> 24 & 15, 5);
  write_io(0, 0);
  write_io(0x10 + 2 * 20, 0xFFFFFFFF);
  if (!under_tcg()) CHECK_EQUAL("IOAPIC: read-only bits", read_io(0x10 + 2 * 20), 0x1AFFF);
  write_io(0x10 + 2 * 20, kMasked);
  write_io(0x10 + 2 * 20 + 1, 0xAB000000);
  CHECK_EQUAL("IOAPIC: destination", read_io(0x10 + 2 * 20 + 1), 0xAB000000);
}

static void level(void) {
  count = 0;
  keeps = true;
  quiets = false;
  serial_interrupt(false);
  redirect(kSerialPin, kVector | kLevel);
  serial_interrupt(true);
  CHECK_EQUAL("level: remote IRR", entry(kSerialPin) & kRemoteIrr, kRemoteIrr);
  open_window();
  CHECK_EQUAL("level: once", count, 1);
  CHECK_EQUAL("level: TMR", *apic(0x180 + 0x20) >> (kVector & 31) & 1, 1);
  open_window();
  CHECK_EQUAL("level: not before EOI", count, 1);
  *apic(kEoi) = 0;  // the line is still high
  CHECK_EQUAL("level: remote IRR again", entry(kSerialPin) & kRemoteIrr, kRemoteIrr);
  open_window();
  CHECK_EQUAL("level: again behind EOI", count, 2);
  acknowledge_serial();
  *apic(kEoi) = 0;
  CHECK_EQUAL("level: remote IRR clear", entry(kSerialPin) & kRemoteIrr, 0);
  open_window();
  CHECK_EQUAL("level: no more", count, 2);

  // Masked: nothing comes; unmasked: the level is still there.
  redirect(kSerialPin, kVector | kLevel | kMasked);
  serial_interrupt(false);
  serial_interrupt(true);
  open_window();
  CHECK_EQUAL("level: masked", count, 2);
  CHECK_EQUAL("level: masked, no remote IRR", entry(kSerialPin) & kRemoteIrr, 0);
  redirect(kSerialPin, kVector | kLevel);
  open_window();
  CHECK_EQUAL("level: unmasked", count, 3);
  // Masked in service: EOI ends remote IRR all the same.
  redirect(kSerialPin, kVector | kLevel | kMasked);
  *apic(kEoi) = 0;
  CHECK_EQUAL("level: EOI while masked", entry(kSerialPin) & kRemoteIrr, 0);
  open_window();
  CHECK_EQUAL("level: EOI while masked, nothing", count, 3);
  redirect(kSerialPin, kVector | kLevel);
  open_window();
  CHECK_EQUAL("level: unmasked again", count, 4);
  acknowledge_serial();
  *apic(kEoi) = 0;
  // An EOI of another vector is not its business.
  redirect(kSerialPin, kVector | kLevel);
  serial_interrupt(false);
  serial_interrupt(true);
  open_window();
  *apic(0x300) = 0x40000 | 0x70;
  open_window();
  *apic(kEoi) = 0;
  CHECK_EQUAL("level: another's EOI", entry(kSerialPin) & kRemoteIrr, kRemoteIrr);
  acknowledge_serial();
  *apic(kEoi) = 0;
  CHECK_EQUAL("level: its own", entry(kSerialPin) & kRemoteIrr, 0);
  // By edge and back: what Linux does to an interrupt that hangs.
  count = 0;
  serial_interrupt(false);
  serial_interrupt(true);
  CHECK_EQUAL("level: waits", entry(kSerialPin) & kRemoteIrr, kRemoteIrr);
  acknowledge_serial();
  redirect(kSerialPin, kVector | kMasked);
  CHECK_EQUAL("level: made edge", entry(kSerialPin) & kRemoteIrr, 0);
  redirect(kSerialPin, kVector | kLevel | kMasked);
  open_window();
  CHECK_EQUAL("level: was requested", count, 1);
  *apic(kEoi) = 0;
  redirect(kSerialPin, kMasked);
}

static void edge(void) {
  count = 0;
  keeps = false;
  quiets = false;
  serial_interrupt(false);
  redirect(kSerialPin, kVector);
  serial_interrupt(true);
  CHECK_EQUAL("edge: no remote IRR", entry(kSerialPin) & kRemoteIrr, 0);
  open_window();
  open_window();
  CHECK_EQUAL("edge: once while high", count, 1);
  acknowledge_serial();
  serial_interrupt(false);
  serial_interrupt(true);
  open_window();
  CHECK_EQUAL("edge: the next", count, 2);
  // Logical, lowest priority, to this one.
  *apic(0xD0) = 0x01000000;
  *apic(0xE0) = 0xFFFFFFFF;
  write_io(0x10 + 2 * kSerialPin, kMasked);
  write_io(0x10 + 2 * kSerialPin + 1, 0x01000000);
  write_io(0x10 + 2 * kSerialPin, kVector | kLogical | 0x100);
  serial_interrupt(false);
  serial_interrupt(true);
  open_window();
  CHECK_EQUAL("edge: lowest priority", count, 3);
  redirect(kSerialPin, kMasked);
  serial_interrupt(false);

  // The PIT, one shot, as an interrupt and as an NMI that wakes.
  redirect(kPitPin, kVector);
  count = 0;
  out8(0x43, 0x30);
  out8(0x40, 0x40);
  out8(0x40, 0);
  while (count == 0) __asm__ volatile("sti; hlt; cli" : : : "memory");
  CHECK_EQUAL("edge: PIT", count, 1);
  redirect(kPitPin, kVector | 0x400);
  nmis = 0;
  out8(0x43, 0x30);
  out8(0x40, 0x00);
  out8(0x40, 0x20);
  __asm__ volatile("cli; hlt" : : : "memory");
  CHECK_EQUAL("NMI: wakes from HLT", nmis, 1);
  redirect(kPitPin, kMasked);
  // Mode 2, many.
  redirect(kPitPin, kVector);
  count = 0;
  out8(0x43, 0x34);
  out8(0x40, 0x00);
  out8(0x40, 0x02);
  while (count < 5) __asm__ volatile("sti; hlt; cli" : : : "memory");
  out8(0x43, 0x30);
  redirect(kPitPin, kMasked);
}

void test_io_apic(void) {
  on_event = event;
  *apic(0xF0) = 0x1FF;
  *apic(0x80) = 0;
  *apic(0x350) = kMasked;  // the 8259s
  registers();
  level();
  edge();
  acknowledge_serial();
  serial_interrupt(false);
}
