#pragma once

#include <stdbool.h>
#include <stdint.h>

/// What every freestanding guest needs, in 32-bit mode as in 64-bit mode: text on the first serial port, and checks.

static inline void out8(uint16_t port, uint8_t v) {
  __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}
static inline uint8_t in8(uint16_t port) {
  uint8_t v;
  __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
  return v;
}
static inline void out32(uint16_t port, uint32_t v) {
  __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}
static inline uint32_t in32(uint16_t port) {
  uint32_t v;
  __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
  return v;
}

void print(const char* text);
/// Ends the machine by the debug exit port, with what the checks have come to.
_Noreturn void finish(void);

/// Counts a check, and prints it when it fails.
void check(bool holds, const char* what, uint64_t actual, uint64_t expected);
static inline void check_equal(const char* what, uint64_t actual, uint64_t expected) {
  check(actual == expected, what, actual, expected);
}
#define CHECK_EQUAL(what, actual, expected) check_equal(what, (uint64_t)(actual), (uint64_t)(expected))

/// QEMU's TCG is the judge of the tests, but errs itself here and there: such checks are left out under it.
bool under_tcg(void);

/// How many processors the machine has.
unsigned cpu_count(void);
