#include "report.h"

static unsigned checks, failures;

/// Compilers call it for structures.
void* memcpy(void* to, const void* from, unsigned long size) {
  for (unsigned long i = 0; i < size; ++i) ((volatile char*)to)[i] = ((const char*)from)[i];
  return to;
}
void* memset(void* to, int value, unsigned long size) {
  for (unsigned long i = 0; i < size; ++i) ((volatile char*)to)[i] = (char)value;
  return to;
}

void print(const char* text) {
  for (; *text; ++text) {
    while ((in8(0x3FD) & 0x20) == 0) {
    }
    out8(0x3F8, (uint8_t)*text);
  }
}

static void print_number(uint64_t value) {
  char text[19] = "0x0000000000000000";
  for (int i = 17; i > 1; --i, value >>= 4) text[i] = "0123456789abcdef"[value & 15];
  print(text);
}

_Noreturn void finish(void) {
  check(checks != 0, "nothing has been checked", 0, 1);
  print(failures == 0 ? "all " : "FAILED: ");
  print_number(failures == 0 ? checks : failures);
  print(failures == 0 ? " checks passed\n" : " checks\n");
  out32(0xF4, failures == 0 ? 0 : 1);
  for (;;) __asm__ volatile("cli; hlt");
}

void check(bool holds, const char* what, uint64_t actual, uint64_t expected) {
  ++checks;
  if (holds) return;
  ++failures;
  print("FAIL ");
  print(what);
  print(": ");
  print_number(actual);
  print(" instead of ");
  print_number(expected);
  print("\n");
  if (failures == 40) finish();
}

bool under_tcg(void) {
  uint32_t a = 0x40000000, b, c = 0, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return b == 0x54474354;  // "TCGT"
}

unsigned cpu_count(void) {
  uint32_t a = 1, b, c, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
  return d >> 28 & 1 ? b >> 16 & 0xFF : 1;
}
