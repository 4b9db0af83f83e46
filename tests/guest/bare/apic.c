// The local APIC beside IPIs: timer modes, priorities, end of interrupt, errors, x2APIC (SDM vol. 3, ch. 10).
#include "bare.h"

enum {
  kId = 0x20,
  kVersion = 0x30,
  kTpr = 0x80,
  kPpr = 0xA0,
  kEoi = 0xB0,
  kLdr = 0xD0,
  kDfr = 0xE0,
  kSpurious = 0xF0,
  kIsr = 0x100,
  kTmr = 0x180,
  kIrr = 0x200,
  kEsr = 0x280,
  kIcrLow = 0x300,
  kTimer = 0x320,
  kLint0 = 0x350,
  kErrorEntry = 0x370,
  kInitial = 0x380,
  kCurrent = 0x390,
  kDivide = 0x3E0
};
enum { kMasked = 0x10000, kPeriodic = 0x20000, kDeadline = 0x40000, kApicBase = 0x1B, kTscDeadline = 0x6E0 };

static volatile unsigned seen[256], order[16], count;
static volatile bool keeps;  // in service: no EOI

static bool event(struct Frame* frame) {
  if (frame->vector < 32 || frame->vector == 0x80) return false;
  ++seen[frame->vector];
  if (count < 16) order[count++] = (unsigned)frame->vector;
  if (!keeps) *apic(kEoi) = 0;
  return true;
}

static void open_window(void) {
  __asm__ volatile("sti; nop; nop; nop; cli" : : : "memory");
}
static void self(unsigned vector) {
  *apic(kIcrLow) = 0x40000 | vector;
}
static bool is_set(unsigned reg, unsigned vector) {
  return *apic(reg + (vector >> 5) * 16) >> (vector & 31) & 1;
}
static uint64_t tsc(void) {
  uint32_t low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return low | (uint64_t)high << 32;
}
static void sleep_until(unsigned vector, unsigned times) {
  while (seen[vector] < times) __asm__ volatile("sti; hlt; cli" : : : "memory");
}

static void timer_modes(void) {
  enum { kVector = 0x61 };
  seen[kVector] = 0;
  *apic(kDivide) = 0xB;
  *apic(kTimer) = kMasked | kVector;
  *apic(kInitial) = 0xFFFFFFFF;
  CHECK_EQUAL("timer: initial count", *apic(kInitial), 0xFFFFFFFF);
  const uint32_t first = *apic(kCurrent);
  uint32_t second = *apic(kCurrent);
  while (second == first) second = *apic(kCurrent);
  check(second < first, "timer: counts down, masked too", second, first);
  *apic(kInitial) = 0;
  CHECK_EQUAL("timer: stopped", *apic(kCurrent), 0);

  // Masked when it expires: nothing comes then, and nothing later.
  *apic(kInitial) = 1000;
  while (*apic(kCurrent) != 0) {
  }
  *apic(kTimer) = kVector;
  open_window();
  CHECK_EQUAL("timer: expired while masked", seen[kVector], 0);
  // One shot, once.
  *apic(kInitial) = 1000;
  sleep_until(kVector, 1);
  for (unsigned i = 0; i < 100; ++i) in8(0x80);
  open_window();
  CHECK_EQUAL("timer: one shot, once", seen[kVector], 1);
  CHECK_EQUAL("timer: one shot, at zero", *apic(kCurrent), 0);
  CHECK_EQUAL("timer: one shot, keeps its count", *apic(kInitial), 1000);
  // Every divisor, by the interrupt it brings.
  static const uint8_t kDivisors[] = {0, 1, 2, 3, 8, 9, 10, 11};
  for (unsigned i = 0; i < sizeof kDivisors; ++i) {
    *apic(kDivide) = kDivisors[i];
    CHECK_EQUAL("timer: divisor", *apic(kDivide), kDivisors[i]);
    *apic(kInitial) = 500;
    sleep_until(kVector, 2 + i);
  }
  // A slower divisor takes longer: 128 against 1.
  uint64_t took[2];
  for (unsigned i = 0; i < 2; ++i) {
    *apic(kDivide) = i == 0 ? 0xB : 0xA;
    const unsigned before = seen[kVector];
    const uint64_t start = tsc();
    *apic(kInitial) = 100000;
    sleep_until(kVector, before + 1);
    took[i] = tsc() - start;
  }
  check(took[1] > took[0], "timer: 128 is slower than 1", took[1], took[0]);
  *apic(kDivide) = 0xB;

  *apic(kTimer) = kPeriodic | kVector;
  *apic(kInitial) = 50000;
  unsigned before = seen[kVector];
  sleep_until(kVector, before + 4);
  // From periodic to one shot: the count goes on, and stops.
  *apic(kTimer) = kVector;
  *apic(kInitial) = 2000;
  before = seen[kVector];
  sleep_until(kVector, before + 1);
  CHECK_EQUAL("timer: no longer periodic", *apic(kCurrent), 0);
  *apic(kTimer) = kMasked;

  uint32_t a = 1, b, c, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
  if ((c >> 24 & 1) == 0) return;
  *apic(kTimer) = kDeadline | kVector;
  __asm__ volatile("mfence");
  CHECK_EQUAL("deadline: none", read_msr(kTscDeadline), 0);
  before = seen[kVector];
  write_msr(kTscDeadline, 1);  // long past
  sleep_until(kVector, before + 1);
  CHECK_EQUAL("deadline: taken", read_msr(kTscDeadline), 0);
  const uint64_t deadline = tsc() + 200000;
  write_msr(kTscDeadline, deadline);
  check(read_msr(kTscDeadline) == deadline || tsc() >= deadline, "deadline: set", deadline, 0);
  sleep_until(kVector, before + 2);
  check(tsc() >= deadline, "deadline: not early", tsc(), deadline);
  write_msr(kTscDeadline, tsc() + (1ULL << 40));
  write_msr(kTscDeadline, 0);
  CHECK_EQUAL("deadline: disarmed", read_msr(kTscDeadline), 0);
  *apic(kInitial) = 1000;
  CHECK_EQUAL("deadline: no initial count", *apic(kCurrent), 0);
  write_msr(kTscDeadline, tsc() + (1ULL << 40));
  *apic(kTimer) = kMasked | kVector;  // another mode disarms it
  CHECK_EQUAL("deadline: another mode", read_msr(kTscDeadline), 0);
}

/// IRR, ISR, PPR and EOI, step by step.
static void priorities(void) {
  keeps = true;
  count = 0;
  *apic(kTpr) = 0;
  self(0x61);
  CHECK_EQUAL("IRR", is_set(kIrr, 0x61), true);
  CHECK_EQUAL("ISR: not yet", is_set(kIsr, 0x61), false);
  CHECK_EQUAL("TMR: edge", is_set(kTmr, 0x61), false);
  open_window();
  CHECK_EQUAL("ISR", is_set(kIsr, 0x61), true);
  CHECK_EQUAL("IRR: taken", is_set(kIrr, 0x61), false);
  CHECK_EQUAL("PPR", *apic(kPpr), 0x60);
  // The same class waits, whatever its number; a higher one comes.
  self(0x6F);
  open_window();
  CHECK_EQUAL("PPR: same class", count, 1);
  self(0x61);
  CHECK_EQUAL("IRR: the one in service again", is_set(kIrr, 0x61), true);
  self(0x70);
  open_window();
  CHECK_EQUAL("PPR: higher class", count, 2);
  CHECK_EQUAL("PPR: of two", *apic(kPpr), 0x70);
  *apic(kTpr) = 0x85;
  CHECK_EQUAL("PPR: TPR", *apic(kPpr), 0x85);
  *apic(kTpr) = 0x7A;
  CHECK_EQUAL("PPR: TPR of the same class", *apic(kPpr), 0x7A);
  *apic(kTpr) = 0;
  // EOI is for the highest in service.
  *apic(kEoi) = 0;
  CHECK_EQUAL("EOI: the highest", is_set(kIsr, 0x70), false);
  CHECK_EQUAL("EOI: not the other", is_set(kIsr, 0x61), true);
  open_window();
  CHECK_EQUAL("EOI: still held back", count, 2);
  *apic(kEoi) = 0;
  CHECK_EQUAL("EOI: none left", *apic(kPpr), 0);
  open_window();
  CHECK_EQUAL("EOI: the next", order[2], 0x6F);
  *apic(kEoi) = 0;
  open_window();
  CHECK_EQUAL("EOI: and the next", order[3], 0x61);
  *apic(kEoi) = 0;
  *apic(kEoi) = 0;  // one too many does nothing
  CHECK_EQUAL("EOI: count", count, 4);

  // TPR: all but its own class and those below.
  static const struct {
    uint8_t tpr, vector;
    bool comes;
  } kRows[] = {{0x60, 0x61, false}, {0x6F, 0x70, true},  {0x5F, 0x60, true}, {0x61, 0x60, false},
               {0xF0, 0xFE, false}, {0xE0, 0xF0, true},  {0x10, 0x20, true}, {0x20, 0x2F, false},
               {0x0F, 0x20, true},  {0x7F, 0x7F, false}, {0x30, 0x41, true}};
  keeps = false;
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    count = 0;
    *apic(kTpr) = kRows[i].tpr;
    self(kRows[i].vector);
    open_window();
    check(count == kRows[i].comes, "TPR", (uint64_t)kRows[i].tpr << 8 | kRows[i].vector, kRows[i].comes);
    *apic(kTpr) = 0;
    open_window();
    check(count == 1, "TPR: lowered", (uint64_t)kRows[i].tpr << 8 | kRows[i].vector, 1);
  }
  // CR8 is bits 7 to 4 of TPR.
  uint64_t cr8;
  *apic(kTpr) = 0x57;
  __asm__ volatile("mov %%cr8, %0" : "=r"(cr8));
  CHECK_EQUAL("CR8", cr8, 5);
  __asm__ volatile("mov %0, %%cr8" : : "r"(9ULL));
  CHECK_EQUAL("CR8: TPR", *apic(kTpr), 0x90);
  __asm__ volatile("mov %0, %%cr8" : : "r"(0ULL));
  // All of what waits comes by priority.
  count = 0;
  for (unsigned vector = 0x30; vector < 0xF0; vector += 0x20) self(vector);
  keeps = true;
  open_window();
  CHECK_EQUAL("priorities: the highest alone", count, 1);
  keeps = false;
  *apic(kEoi) = 0;
  for (unsigned i = 0; i < 6; ++i) open_window();
  CHECK_EQUAL("priorities: all", count, 6);
  for (unsigned i = 0; i < 6; ++i) CHECK_EQUAL("priorities: by class", order[i], 0xD0 - 0x20 * i);
}

static void registers(void) {
  CHECK_EQUAL("version", *apic(kVersion) & 0xF0, 0x10);
  *apic(kLdr) = 0x5A123456;
  CHECK_EQUAL("LDR", *apic(kLdr), 0x5A000000);
  *apic(kDfr) = 0;
  CHECK_EQUAL("DFR", *apic(kDfr), 0x0FFFFFFF);
  *apic(kDfr) = 0xFFFFFFFF;
  *apic(kLdr) = 0x01000000;
  *apic(kTpr) = 0xFFFFFF12;
  CHECK_EQUAL("TPR: one byte", *apic(kTpr), 0x12);
  *apic(kTpr) = 0;
  // Illegal vectors are errors. Reading ESR takes a write first.
  *apic(kEsr) = 0;
  *apic(kEsr) = 0;
  CHECK_EQUAL("ESR: none", *apic(kEsr), 0);
  if (!under_tcg()) {
    seen[0x62] = 0;
    *apic(kErrorEntry) = 0x62;
    *apic(kIcrLow) = 0x40005;
    open_window();
    CHECK_EQUAL("error interrupt", seen[0x62], 1);
    CHECK_EQUAL("ESR: before it is written", *apic(kEsr), 0);
    *apic(kEsr) = 0;
    check((*apic(kEsr) & 0x60) != 0, "ESR: illegal vector", *apic(kEsr), 0x20);
    *apic(kEsr) = 0;
    CHECK_EQUAL("ESR: gone", *apic(kEsr), 0);
    *apic(kErrorEntry) = kMasked;
  }
  if (under_tcg()) return;  // masks nothing then
  // Disabled by software: the local vectors are masked and stay so, requests are kept, nothing is delivered.
  count = 0;
  *apic(kTimer) = 0x61;
  self(0x63);
  *apic(kSpurious) = 0xFF;
  CHECK_EQUAL("disabled: LVT masked", *apic(kTimer), kMasked | 0x61);
  *apic(kTimer) = 0x61;
  CHECK_EQUAL("disabled: LVT stays masked", *apic(kTimer) & kMasked, kMasked);
  *apic(kSpurious) = 0x1FF;
  CHECK_EQUAL("enabled: LVT is still masked", *apic(kTimer) & kMasked, kMasked);
  open_window();
  CHECK_EQUAL("enabled: what was requested", count, 1);
}

static void to_x2apic(void* a) {
  write_msr(kApicBase, (uint64_t)a);
}
static void read_x2apic(void* msr) {
  read_msr((uint32_t)(uint64_t)msr);
}
static uint64_t msr_value;
static void write_x2apic(void* msr) {
  write_msr((uint32_t)(uint64_t)msr, msr_value);
}
static int write_checked(uint32_t msr, uint64_t value) {
  msr_value = value;
  return attempt(write_x2apic, (void*)(uint64_t)msr).vector;
}

static void x2apic(void) {
  uint32_t a = 1, b, c, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
  if ((c >> 21 & 1) == 0) return;
  const uint64_t base = read_msr(kApicBase);
  CHECK_EQUAL("x2APIC: MSRs before", attempt(read_x2apic, (void*)0x802).vector, 13);
  CHECK_EQUAL("x2APIC: EXTD without EN", attempt(to_x2apic, (void*)((base & ~0x800ULL) | 0x400)).vector, 13);
  CHECK_EQUAL("x2APIC: reserved bits", attempt(to_x2apic, (void*)(base | 1)).vector, 13);
  CHECK_EQUAL("x2APIC", attempt(to_x2apic, (void*)(base | 0x400)).vector, -1);
  CHECK_EQUAL("x2APIC: back to xAPIC", attempt(to_x2apic, (void*)base).vector, 13);
  CHECK_EQUAL("x2APIC: ID", read_msr(0x802), 0);
  CHECK_EQUAL("x2APIC: LDR", read_msr(0x80D), 1);
  CHECK_EQUAL("x2APIC: DFR", attempt(read_x2apic, (void*)0x80E).vector, 13);
  CHECK_EQUAL("x2APIC: ICR's upper half", attempt(read_x2apic, (void*)0x831).vector, 13);
  CHECK_EQUAL("x2APIC: EOI is not read", attempt(read_x2apic, (void*)0x80B).vector, 13);
  CHECK_EQUAL("x2APIC: EOI of 1", write_checked(0x80B, 1), 13);
  CHECK_EQUAL("x2APIC: LDR is not written", write_checked(0x80D, 1), 13);
  CHECK_EQUAL("x2APIC: TPR's reserved bits", write_checked(0x808, 0x100), 13);
  CHECK_EQUAL("x2APIC: self IPI is not read", attempt(read_x2apic, (void*)0x83F).vector, 13);
  count = 0;
  on_event = 0;
  on_event = event;
  keeps = true;
  write_msr(0x83F, 0x64);
  CHECK_EQUAL("x2APIC: IRR", read_msr(0x823) >> 4 & 1, 1);
  open_window();
  CHECK_EQUAL("x2APIC: self IPI", count, 1);
  CHECK_EQUAL("x2APIC: ISR", read_msr(0x813) >> 4 & 1, 1);
  write_msr(0x80B, 0);
  CHECK_EQUAL("x2APIC: EOI", read_msr(0x813), 0);
  write_msr(0x830, 0x65);  // to 0
  open_window();
  write_msr(0x80B, 0);
  CHECK_EQUAL("x2APIC: IPI", order[1], 0x65);
  write_msr(0x830, 0xFFFFFFFFULL << 32 | 0x66);
  open_window();
  write_msr(0x80B, 0);
  CHECK_EQUAL("x2APIC: broadcast", order[2], 0x66);
  write_msr(0x830, 1ULL << 32 | 0x867);  // logical
  open_window();
  write_msr(0x80B, 0);
  CHECK_EQUAL("x2APIC: logical", order[3], 0x67);
  CHECK_EQUAL("x2APIC: count", count, 4);
  keeps = false;
  // By way of the disabled state back.
  write_msr(kApicBase, base & ~0x800ULL);
  CHECK_EQUAL("x2APIC: from disabled", attempt(to_x2apic, (void*)(base | 0xC00)).vector, 13);
  write_msr(kApicBase, base);
  *apic(kSpurious) = 0x1FF;
  CHECK_EQUAL("xAPIC again", *apic(kId), 0);
}

void test_apic(void) {
  on_event = event;
  *apic(kSpurious) = 0x1FF;
  timer_modes();
  priorities();
  registers();
  x2apic();
}
