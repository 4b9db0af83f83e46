#include "real_mode.h"

enum { kMonitor = 0x6000, kData16 = 0x1F0, kMonitorCode = 0x1F8 };

extern uint8_t real_monitor[], real_monitor_end[], real_registers[];
extern void go_to_real_mode(void);
extern struct {
  uint16_t limit;
  uint32_t base;
} __attribute__((packed)) protected_idt;

void set_up_real_mode(void) {
  gdt[kData16 / 8] = segment(0, 0xFFFF, 0x93, 0);
  gdt[kMonitorCode / 8] = segment(kMonitor * 16, 0xFFFF, 0x9B, 0);
  for (unsigned i = 0; i < 256; ++i) {
    *(volatile uint16_t*)low_memory(4 * i) = (uint16_t)(16 * i);
    *(volatile uint16_t*)low_memory(4 * i + 2) = kMonitor;
  }
  for (unsigned i = 0; real_monitor + i < real_monitor_end; ++i) *low_memory(kMonitor * 16U + i) = real_monitor[i];
  __asm__ volatile("sidt %0" : "=m"(protected_idt));
}

struct Real real_registers_at_first(void) {
  return (struct Real){.esp = 0x8000,
                       .ds = kRealData,
                       .es = kRealData,
                       .ss = kRealStack,
                       .flags = 2,
                       .ip = kStart,
                       .cs = kRealCode,
                       .ds_descriptor = kData16,
                       .es_descriptor = kData16,
                       .fs_descriptor = kData16,
                       .gs_descriptor = kData16,
                       .ss_descriptor = kData16,
                       .idt_limit = 0x3FF};
}

struct RealFrame run_real(struct Real* registers, const uint8_t* code, const uint8_t* end, uint16_t at) {
  for (unsigned i = 0; code + i < end; ++i) *real_memory(kRealCode, (uint16_t)(at + i)) = code[i];
  registers->ip = at;
  volatile uint8_t* const there = low_memory(kMonitor * 16U + (uint32_t)(real_registers - real_monitor));
  for (unsigned i = 0; i < sizeof *registers; ++i) there[i] = ((uint8_t*)registers)[i];
  go_to_real_mode();
  for (unsigned i = 0; i < sizeof *registers; ++i) ((uint8_t*)registers)[i] = there[i];
  const uint16_t sp = (uint16_t)registers->esp;
  return (struct RealFrame){real_word(registers->ss, sp), real_word(registers->ss, (uint16_t)(sp + 2)),
                            real_word(registers->ss, (uint16_t)(sp + 4))};
}
