#include "processors.h"

static volatile unsigned started, arrived, generation, finished;
static void (*volatile current)(unsigned);
static volatile unsigned job_number;

void start_of_processor(unsigned cpu) {
  const struct {
    uint16_t limit;
    uint64_t base;
  } __attribute__((packed)) pointer = {4095, (uint64_t)idt};
  __asm__ volatile("lidt %0" : : "m"(pointer));
  *apic(0xF0) = 0x1FF;
  *apic(0x80) = 0;
  unsigned seen = __atomic_load_n(&job_number, __ATOMIC_SEQ_CST);
  __atomic_fetch_add(&started, 1, __ATOMIC_SEQ_CST);
  for (;;) {
    while (__atomic_load_n(&job_number, __ATOMIC_SEQ_CST) == seen) pause_once();
    ++seen;
    current(cpu);
    __atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
  }
}

unsigned start_processors(void) {
  extern const uint8_t trampoline[], trampoline_end[];
  const unsigned cpus = cpu_count();
  if (started != 0 || cpus < 2) return cpus;
  uint8_t* const page = (uint8_t*)0x8000;
  for (unsigned i = 0; trampoline + i < trampoline_end; ++i) ((volatile uint8_t*)page)[i] = trampoline[i];
  *apic(0xF0) = 0x1FF;
  send_ipi(0, kOthers | kInit);
  for (unsigned i = 0; i < 20000; ++i) in8(0x80);
  send_ipi(0, kOthers | kStartUp | 8);
  while (__atomic_load_n(&started, __ATOMIC_SEQ_CST) + 1 < cpus) pause_once();
  return cpus;
}

void stop_processors(void) {
  if (started == 0) return;
  send_ipi(0, kOthers | kInit);
  started = 0;
}

void on_all(void (*job)(unsigned)) {
  const unsigned others = cpu_count() - 1;
  finished = 0;
  arrived = 0;
  current = job;
  __atomic_fetch_add(&job_number, 1, __ATOMIC_SEQ_CST);
  job(*apic(0x20) >> 24);
  while (__atomic_load_n(&finished, __ATOMIC_SEQ_CST) < others) pause_once();
}

void meet(void) {
  const unsigned mine = __atomic_load_n(&generation, __ATOMIC_SEQ_CST);
  if (__atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST) == cpu_count()) {
    arrived = 0;
    __atomic_fetch_add(&generation, 1, __ATOMIC_SEQ_CST);
    return;
  }
  while (__atomic_load_n(&generation, __ATOMIC_SEQ_CST) == mine) pause_once();
}
