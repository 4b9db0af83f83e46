// The real-time clock (MC146818): formats, roll-overs, alarm, periodic flag, update.
#include "bare.h"

enum {
  kSeconds,
  kSecondsAlarm,
  kMinutes,
  kMinutesAlarm,
  kHours,
  kHoursAlarm,
  kWeekday,
  kDay,
  kMonth,
  kYear,
  kA,
  kB,
  kC,
  kD
};
enum { kCentury = 0x32, kSet = 0x80, kPie = 0x40, kAie = 0x20, kUie = 0x10, kBinary = 4, k24Hours = 2, kUip = 0x80 };

static uint8_t read_cmos(unsigned index) {
  out8(0x70, (uint8_t)index);
  return in8(0x71);
}
static void write_cmos(unsigned index, unsigned value) {
  out8(0x70, (uint8_t)index);
  out8(0x71, (uint8_t)value);
}

static uint8_t bcd(unsigned value) {
  return (uint8_t)(value / 10 << 4 | value % 10);
}
static uint8_t encoded(unsigned value, unsigned format) {
  return format & kBinary ? (uint8_t)value : bcd(value);
}
static uint8_t hour(unsigned value, unsigned format) {
  if (format & k24Hours) return encoded(value, format);
  return (uint8_t)(encoded(value % 12 == 0 ? 12 : value % 12, format) | (value >= 12 ? 0x80 : 0));
}

static void set_time(unsigned format, const uint16_t* t) {
  write_cmos(kA, 0x76);  // the divider held
  write_cmos(kB, kSet | format);
  write_cmos(kYear, encoded(t[0] % 100, format));
  write_cmos(kCentury, encoded(t[0] / 100, format));
  write_cmos(kMonth, encoded(t[1], format));
  write_cmos(kDay, encoded(t[2], format));
  write_cmos(kHours, hour(t[3], format));
  write_cmos(kMinutes, encoded(t[4], format));
  write_cmos(kSeconds, encoded(t[5], format));
  write_cmos(kB, format);
  read_cmos(kC);
}

static void check_time(const char* what, unsigned format, const uint16_t* t) {
  CHECK_EQUAL(what, read_cmos(kYear), encoded(t[0] % 100, format));
  CHECK_EQUAL(what, read_cmos(kCentury), encoded(t[0] / 100, format));
  CHECK_EQUAL(what, read_cmos(kMonth), encoded(t[1], format));
  CHECK_EQUAL(what, read_cmos(kDay), encoded(t[2], format));
  CHECK_EQUAL(what, read_cmos(kHours), hour(t[3], format));
  CHECK_EQUAL(what, read_cmos(kMinutes), encoded(t[4], format));
  CHECK_EQUAL(what, read_cmos(kSeconds), encoded(t[5], format));
}

/// Half a second behind the divider's start comes the first update.
static void roll_overs(void) {
  static const struct {
    unsigned format;
    uint16_t before[6], after[6];
  } kRows[] = {
      {k24Hours, {2023, 12, 31, 23, 59, 59}, {2024, 1, 1, 0, 0, 0}},
      {k24Hours | kBinary, {2024, 2, 28, 23, 59, 59}, {2024, 2, 29, 0, 0, 0}},
      {0, {2023, 6, 30, 11, 59, 59}, {2023, 6, 30, 12, 0, 0}},
      {kBinary, {2023, 2, 28, 23, 59, 59}, {2023, 3, 1, 0, 0, 0}},
  };
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    const unsigned format = kRows[i].format;
    uint8_t flags = 0;
    // Again, where the machine has stood still for a second meanwhile.
    for (unsigned attempts = 0; attempts < 10; ++attempts) {
      set_time(format, kRows[i].before);
      check_time("RTC: set", format, kRows[i].before);
      // The alarm is for the second to come: all three match, or two of them and one that does not care.
      write_cmos(kSecondsAlarm, encoded(kRows[i].after[5], format));
      write_cmos(kMinutesAlarm, i % 2 ? 0xFF : encoded(kRows[i].after[4], format));
      write_cmos(kHoursAlarm, i == 3 ? hour(1, format) : hour(kRows[i].after[3], format));
      read_cmos(kC);
      write_cmos(kA, 0x26);
      flags = 0;
      while (((flags |= read_cmos(kC)) & kUie) == 0) {
      }
      if (read_cmos(kSeconds) == encoded(kRows[i].after[5], format)) break;
    }
    check_time("RTC: rolled over", format, kRows[i].after);
    // QEMU keeps no flags that nobody has enabled, but for this one.
    if (!under_tcg()) CHECK_EQUAL("RTC: alarm", flags & kAie, i == 3 ? 0 : kAie);
    CHECK_EQUAL("RTC: flags without enables", flags & 0x80, 0);
    CHECK_EQUAL("RTC: no update now", read_cmos(kA) & kUip, 0);
  }
}

/// The same time, told in other formats.
static void formats(void) {
  static const uint16_t kTime[6] = {2023, 11, 5, 15, 42, 17};
  set_time(k24Hours, kTime);  // the divider stays held
  for (unsigned format = 0; format < 8; format += 2) {
    set_time(format, kTime);
    check_time("RTC: format", format, kTime);
  }
  CHECK_EQUAL("RTC: valid", read_cmos(kD) & 0x80, 0x80);
  for (unsigned index = 0x40; index < 0x50; ++index) write_cmos(index, index * 3);
  for (unsigned index = 0x40; index < 0x50; ++index) CHECK_EQUAL("RTC: memory", read_cmos(index), index * 3);
}

static volatile unsigned count;
static bool event(struct Frame* frame) {
  if (frame->vector != 0x59) return false;
  ++count;
  *apic(0xB0) = 0;
  return true;
}

static volatile uint32_t* io_apic(unsigned reg) {
  return (volatile uint32_t*)(0xFEC00000ULL + reg);
}

/// The periodic interrupt, by the IOAPIC; register C must be read before the next.
static void periodic(void) {
  on_event = event;
  count = 0;
  *apic(0xF0) = 0x1FF;
  *io_apic(0) = 0x20;
  *io_apic(0x10) = 0x59;
  *io_apic(0) = 0x21;
  *io_apic(0x10) = 0;
  write_cmos(kA, 0x26);
  read_cmos(kC);
  write_cmos(kB, k24Hours | kPie);
  for (unsigned i = 1; i <= 3; ++i) {
    while (count < i) __asm__ volatile("sti; hlt; cli" : : : "memory");
    CHECK_EQUAL("RTC: periodic flags", read_cmos(kC) & 0xC0, 0xC0);
  }
  bool cleared = false;  // the next may come at any time
  for (unsigned i = 0; i < 1000 && !cleared; ++i) {
    read_cmos(kC);
    cleared = read_cmos(kC) == 0;
  }
  CHECK_EQUAL("RTC: flags are cleared by reading", cleared, true);
  write_cmos(kB, k24Hours);
  read_cmos(kC);
  __asm__ volatile("sti; nop; nop; cli" : : : "memory");  // one may have been on its way
  // Without the enable the flag comes, but no interrupt.
  count = 0;
  while (!under_tcg() && (read_cmos(kC) & kPie) == 0) {
  }
  __asm__ volatile("sti; nop; nop; cli" : : : "memory");
  CHECK_EQUAL("RTC: flag without interrupt", count, 0);
  *io_apic(0) = 0x20;
  *io_apic(0x10) = 0x10000;
}

void test_rtc(void) {
  formats();
  roll_overs();
  periodic();
  write_cmos(kA, 0x26);
  write_cmos(kB, k24Hours);
}
