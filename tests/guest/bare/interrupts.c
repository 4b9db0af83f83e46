// The local APIC's timer and the interrupt shadow (SDM vol. 3, 6.8.3 and 10.5.4). Nothing here measures time.
#include "bare.h"

enum { kVector = 0x50, kOther = 0x51 };
enum {
  kEoi = 0xB0,
  kSpurious = 0xF0,
  kIcrLow = 0x300,
  kTimer = 0x320,
  kInitial = 0x380,
  kCurrent = 0x390,
  kDivide = 0x3E0,
  kTpr = 0x80
};

static volatile unsigned seen[256], order[8], count;

static void handler(int vector) {
  ++seen[vector];
  if (count < 8) order[count++] = (unsigned)vector;
  *apic(kEoi) = 0;
}

static void wait_for(unsigned vector, unsigned times) {
  while (seen[vector] < times) __asm__ volatile("sti; hlt; cli" : : : "memory");
}

static void self_ipi(unsigned vector) {
  *apic(kIcrLow) = 0x40000 | vector;
}

void test_interrupts(void) {
  on_interrupt = handler;
  *apic(kSpurious) = 0x1FF;
  *apic(kTpr) = 0;
  *apic(kDivide) = 0xB;

  *apic(kTimer) = kVector;
  *apic(kInitial) = 200000;
  wait_for(kVector, 1);
  CHECK_EQUAL("timer: one shot leaves zero", *apic(kCurrent), 0);
  *apic(kTimer) = 0x20000 | kVector;
  *apic(kInitial) = 200000;
  wait_for(kVector, 6);
  *apic(kTimer) = 0x10000;
  CHECK_EQUAL("timer: periodic", seen[kVector] >= 6, 1);

  count = 0;
  self_ipi(kVector);
  self_ipi(kOther + 0x20);
  __asm__ volatile("sti; nop; nop; nop; cli" : : : "memory");
  CHECK_EQUAL("priority: both came", count, 2);
  CHECK_EQUAL("priority: the higher one first", order[0], kOther + 0x20);

  // TPR holds back its class and below.
  count = 0;
  *apic(kTpr) = 0x50;
  self_ipi(kVector);
  __asm__ volatile("sti; nop; nop; cli" : : : "memory");
  CHECK_EQUAL("TPR: held back", count, 0);
  *apic(kTpr) = 0;
  __asm__ volatile("sti; nop; nop; cli" : : : "memory");
  CHECK_EQUAL("TPR: let through", count, 1);

  // STI; CLI lets nothing in between.
  count = 0;
  self_ipi(kVector);
  __asm__ volatile("sti; cli; nop" : : : "memory");
  CHECK_EQUAL("shadow of STI", count, 0);
  __asm__ volatile("sti; nop; cli" : : : "memory");
  CHECK_EQUAL("behind the shadow", count, 1);
  // HLT with the interrupt already waiting does not sleep.
  count = 0;
  self_ipi(kVector);
  __asm__ volatile("sti; hlt; cli" : : : "memory");
  CHECK_EQUAL("STI; HLT", count, 1);
}
