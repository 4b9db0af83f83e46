// The two 8259A: initialization, priorities, the kinds of EOI, masks, polling, the cascade. Their requests come from
// the PIT (IRQ 0), the serial port (IRQ 4) and the RTC (IRQ 8).
#include "bare.h"

enum { kMaster = 0x20, kSlave = 0xA0, kBase = 0x30, kSlaveBase = 0x38 };
enum { kEoi = 0x20, kSpecificEoi = 0x60, kReadIrr = 0x0A, kReadIsr = 0x0B, kPoll = 0x0C };
enum { kSpecialMask = 0x68, kNoSpecialMask = 0x48, kSetPriority = 0xC0, kRotate = 0xA0 };

static volatile unsigned order[16], count;

static bool event(struct Frame* frame) {
  if (frame->vector < kBase || frame->vector >= kSlaveBase + 8) return false;
  if (count < 16) order[count++] = (unsigned)frame->vector;
  return true;
}

static void open_window(void) {
  __asm__ volatile("sti; nop; nop; nop; cli" : : : "memory");
}

/// ICW1 to ICW4 of both; `icw4` is the master's.
static void initialize(uint8_t icw4) {
  out8(kMaster, 0x11);
  out8(kMaster + 1, kBase);
  out8(kMaster + 1, 4);
  out8(kMaster + 1, icw4);
  out8(kSlave, 0x11);
  out8(kSlave + 1, kSlaveBase);
  out8(kSlave + 1, 2);
  out8(kSlave + 1, 1);
}
static uint8_t irr(uint16_t chip) {
  out8(chip, kReadIrr);
  return in8(chip);
}
static uint8_t isr(uint16_t chip) {
  out8(chip, kReadIsr);
  return in8(chip);
}

static void serial_interrupt(bool on) {
  while ((in8(0x3FD) & 0x60) != 0x60) {
  }
  out8(0x3FC, 8);
  out8(0x3F9, on ? 2 : 0);
}
/// A rising edge on IRQ 4.
static void raise_4(void) {
  serial_interrupt(false);
  in8(0x3FA);
  serial_interrupt(true);
}
/// A rising edge on IRQ 0: the PIT's output goes low in mode 0 and high when the count is over.
static void raise_0(void) {
  out8(0x43, 0x30);
  out8(0x40, 20);
  out8(0x40, 0);
  do {
    out8(0x43, 0xE2);  // read back the status of counter 0
  } while ((in8(0x40) & 0x80) == 0);
  // The output is a moment ahead of the request where time is simulated.
  for (unsigned i = 0; i < 3000000 && (irr(kMaster) & 1) == 0; ++i) {
  }
}

static void masks_and_requests(void) {
  initialize(1);
  CHECK_EQUAL("PIC: mask after initialization", in8(kMaster + 1), 0);
  out8(kMaster + 1, 0xEF);
  out8(kSlave + 1, 0xFF);
  CHECK_EQUAL("PIC: mask", in8(kMaster + 1), 0xEF);
  count = 0;
  raise_4();
  CHECK_EQUAL("PIC: requested", irr(kMaster) & 0x10, 0x10);
  CHECK_EQUAL("PIC: not in service", isr(kMaster), 0);
  open_window();
  CHECK_EQUAL("PIC: delivered", count, 1);
  CHECK_EQUAL("PIC: vector", order[0], kBase + 4);
  CHECK_EQUAL("PIC: in service", isr(kMaster), 0x10);
  CHECK_EQUAL("PIC: no longer requested", irr(kMaster) & 0x10, 0);
  raise_4();
  open_window();
  CHECK_EQUAL("PIC: held back by itself", count, 1);
  out8(kMaster, kEoi);
  CHECK_EQUAL("PIC: EOI", isr(kMaster), 0);
  open_window();
  CHECK_EQUAL("PIC: the next", count, 2);
  out8(kMaster, kSpecificEoi | 3);
  CHECK_EQUAL("PIC: EOI of another", isr(kMaster), 0x10);
  out8(kMaster, kSpecificEoi | 4);
  CHECK_EQUAL("PIC: specific EOI", isr(kMaster), 0);
  // Masked requests wait.
  out8(kMaster + 1, 0xFF);
  raise_4();
  open_window();
  CHECK_EQUAL("PIC: masked", count, 2);
  CHECK_EQUAL("PIC: masked but requested", irr(kMaster) & 0x10, 0x10);
  out8(kMaster + 1, 0xEF);
  open_window();
  CHECK_EQUAL("PIC: unmasked", count, 3);
  out8(kMaster, kEoi);
  // Polling acknowledges.
  raise_4();
  out8(kMaster, kPoll);
  CHECK_EQUAL("PIC: poll", in8(kMaster), 0x84);
  CHECK_EQUAL("PIC: poll, in service", isr(kMaster), 0x10);
  out8(kMaster, kEoi);
  out8(kMaster, kPoll);
  CHECK_EQUAL("PIC: poll of nothing", in8(kMaster) & 0x80, 0);
}

static void priorities(void) {
  initialize(1);
  out8(kMaster + 1, 0xEE);
  out8(kSlave + 1, 0xFF);
  // 0 before 4, whichever came first.
  count = 0;
  raise_4();
  raise_0();
  open_window();
  CHECK_EQUAL("PIC: one at a time", count, 1);
  CHECK_EQUAL("PIC: 0 first", order[0], kBase);
  out8(kMaster, kEoi);
  open_window();
  CHECK_EQUAL("PIC: then 4", order[1], kBase + 4);
  // 0 interrupts 4; EOI without a number is for 0.
  raise_0();
  open_window();
  CHECK_EQUAL("PIC: nested", count, 3);
  CHECK_EQUAL("PIC: two in service", isr(kMaster), 0x11);
  out8(kMaster, kEoi);
  CHECK_EQUAL("PIC: EOI of the highest", isr(kMaster), 0x10);
  out8(kMaster, kEoi);
  // 3 the lowest, so 4 the highest.
  out8(kMaster, kSetPriority | 3);
  count = 0;
  raise_0();
  raise_4();
  open_window();
  CHECK_EQUAL("PIC: rotated, 4 first", order[0], kBase + 4);
  out8(kMaster, kRotate);  // and EOI: now 4 is the lowest
  open_window();
  CHECK_EQUAL("PIC: rotated, then 0", order[1], kBase);
  out8(kMaster, kEoi);
  raise_0();
  raise_4();
  open_window();
  CHECK_EQUAL("PIC: rotated by EOI", order[2], kBase);
  out8(kMaster, kEoi);
  open_window();
  out8(kMaster, kEoi);
  CHECK_EQUAL("PIC: rotated, all", count, 4);
  out8(kMaster, kSetPriority | 7);
  // Special mask mode: 0 in service and masked lets 4 through.
  count = 0;
  raise_0();
  open_window();
  raise_4();
  out8(kMaster + 1, 0xEF);
  open_window();
  CHECK_EQUAL("PIC: masked in service holds back", count, 1);
  out8(kMaster, kSpecialMask);
  out8(kMaster + 1, 0xEF);  // or QEMU would not look
  open_window();
  CHECK_EQUAL("PIC: special mask", count, 2);
  out8(kMaster, kNoSpecialMask);
  out8(kMaster, kSpecificEoi | 4);
  out8(kMaster, kSpecificEoi | 0);
  CHECK_EQUAL("PIC: none in service", isr(kMaster), 0);
}

static void automatic_eoi(void) {
  initialize(3);
  out8(kMaster + 1, 0xEF);
  out8(kSlave + 1, 0xFF);
  count = 0;
  for (unsigned i = 0; i < 3; ++i) {
    raise_4();
    open_window();
    CHECK_EQUAL("PIC: automatic EOI", isr(kMaster), 0);
  }
  CHECK_EQUAL("PIC: automatic EOI, each", count, 3);
}

/// A level is requested as long as it is there.
static void levels(void) {
  initialize(1);
  out8(0x4D0, 0x10);
  CHECK_EQUAL("ELCR", in8(0x4D0), 0x10);
  out8(kMaster + 1, 0xEF);
  out8(kSlave + 1, 0xFF);
  count = 0;
  raise_4();
  open_window();
  out8(kMaster, kEoi);
  open_window();
  CHECK_EQUAL("PIC: level, still there", count, 2);
  in8(0x3FA);
  out8(kMaster, kEoi);
  CHECK_EQUAL("PIC: level, gone", irr(kMaster) & 0x10, 0);
  open_window();
  CHECK_EQUAL("PIC: level, no more", count, 2);
  out8(0x4D0, 0);
}

static void cascade(void) {
  initialize(1);
  out8(kMaster + 1, 0xFA);  // 0 and the cascade
  out8(kSlave + 1, 0xFE);
  count = 0;
  out8(0x70, 0x0A);
  out8(0x71, 0x26);
  out8(0x70, 0x0B);
  out8(0x71, 0x42);  // periodic, 1024 Hz
  out8(0x70, 0x0C);
  in8(0x71);
  while (count == 0) __asm__ volatile("sti; hlt; cli" : : : "memory");
  CHECK_EQUAL("PIC: cascade", order[0], kSlaveBase);
  CHECK_EQUAL("PIC: cascade, master", isr(kMaster), 4);
  CHECK_EQUAL("PIC: cascade, slave", isr(kSlave), 1);
  raise_0();
  open_window();
  CHECK_EQUAL("PIC: 0 during the slave's", order[1], kBase);
  out8(kMaster, kEoi);
  out8(0x70, 0x0B);
  out8(0x71, 0x02);
  out8(0x70, 0x0C);
  in8(0x71);
  out8(kSlave, kEoi);
  CHECK_EQUAL("PIC: EOI of the slave alone", isr(kMaster), 4);
  out8(kMaster, kEoi);
  CHECK_EQUAL("PIC: EOI of both", isr(kMaster), 0);
}

void test_pic(void) {
  on_event = event;
  *apic(0xF0) = 0x1FF;
  *apic(0x80) = 0;
  *apic(0x350) = 0x700;  // LINT0: ExtINT
  masks_and_requests();
  priorities();
  automatic_eoi();
  levels();
  cascade();
  initialize(1);
  out8(kMaster + 1, 0xFF);
  out8(kSlave + 1, 0xFF);
  *apic(0x350) = 0x10700;
  in8(0x3FA);
  serial_interrupt(false);
}
