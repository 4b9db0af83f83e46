#pragma once

#include <stdbool.h>
#include <stdint.h>

/// What freestanding guests need: text on the first serial port, faults as values, and memory to map.

/// The exception or interrupt that ended an attempt; vector -1 when none did.
struct Fault {
  int vector;
  uint64_t error_code, cr2, rip, rflags, rsp;
};

/// What the processor and start.S have pushed.
struct Frame {
  uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
  uint64_t vector, error_code, rip, cs, rflags, rsp, ss;
};

/// Runs `action`; what it raises ends it.
struct Fault attempt(void (*action)(void*), void* argument);
/// Registers of the last fault.
extern struct Frame last_frame;
/// Called for interrupts of vectors from 32 on, which return; attempts see the others.
extern void (*on_interrupt)(int vector);

/// QEMU's TCG is the judge of the tests, but errs itself here and there: such checks are left out under it.
bool under_tcg(void);

/// Counts a check, and prints it when it fails.
void check(bool holds, const char* what, uint64_t actual, uint64_t expected);
#define CHECK_EQUAL(what, actual, expected) \
  check((uint64_t)(actual) == (uint64_t)(expected), what, (uint64_t)(actual), (uint64_t)(expected))

/// A window of 512 pages at kWindow, whose page table is the caller's to write.
enum { kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 32, kDirty = 64 };
#define kNoExecute (1ULL << 63)
#define kWindow 0x40000000ULL
extern uint64_t window[512];
static inline void flush(uint64_t linear) {
  __asm__ volatile("invlpg (%0)" : : "r"(linear) : "memory");
}

static inline uint64_t read_cr0(void) {
  uint64_t v;
  __asm__ volatile("mov %%cr0, %0" : "=r"(v));
  return v;
}
static inline void write_cr0(uint64_t v) {
  __asm__ volatile("mov %0, %%cr0" : : "r"(v) : "memory");
}
static inline uint64_t read_cr4(void) {
  uint64_t v;
  __asm__ volatile("mov %%cr4, %0" : "=r"(v));
  return v;
}
static inline void write_cr4(uint64_t v) {
  __asm__ volatile("mov %0, %%cr4" : : "r"(v) : "memory");
}
static inline void out8(uint16_t port, uint8_t v) {
  __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

/// IDT entries are present unless a test says otherwise.
void set_gate_present(int vector, bool present);

void test_paging(void);
void test_exceptions(void);
void test_code_writing(void);
void test_strings(void);
void test_interrupts(void);
