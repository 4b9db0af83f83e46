#include "bare.h"

extern const char vectors[];
extern uint64_t pml4[512], pdpt[512], gdt[7];
extern uint8_t tss[104];

uint64_t window[512] __attribute__((aligned(4096)));
static uint64_t window_directory[512] __attribute__((aligned(4096))),
    device_directory[512] __attribute__((aligned(4096)));
static struct { uint64_t low, high; } idt[256];
static uint8_t exception_stack[16384] __attribute__((aligned(16))), spare_stack[16384] __attribute__((aligned(16)));

static void* recovery[5];
static volatile bool recovering;
static volatile struct Fault fault;
struct Frame last_frame;
void (*on_interrupt)(int vector);
static unsigned checks, failures;

/// Compilers call it for structures.
void* memcpy(void* to, const void* from, unsigned long size) {
  for (unsigned long i = 0; i < size; ++i) ((volatile char*)to)[i] = ((const char*)from)[i];
  return to;
}

static void print(const char* text) {
  for (; *text; ++text) {
    uint8_t status;
    do __asm__ volatile("inb %1, %0" : "=a"(status) : "Nd"((uint16_t)0x3FD));
    while ((status & 0x20) == 0);
    out8(0x3F8, (uint8_t)*text);
  }
}

static void print_number(uint64_t value) {
  char text[19] = "0x0000000000000000";
  for (int i = 17; i > 1; --i, value >>= 4) text[i] = "0123456789abcdef"[value & 15];
  print(text);
}

static _Noreturn void finish(void) {
  print(failures == 0 ? "all " : "FAILED: ");
  print_number(failures == 0 ? checks : failures);
  print(failures == 0 ? " checks passed\n" : " checks\n");
  __asm__ volatile("outl %0, %1" : : "a"(failures == 0 ? 0 : 1), "Nd"((uint16_t)0xF4));
  for (;;) __asm__ volatile("cli; hlt");
}

void check(bool holds, const char* what, uint64_t actual, uint64_t expected) {
  ++checks;
  if (holds) return;
  if (++failures > 40) finish();
  print("FAIL ");
  print(what);
  print(": ");
  print_number(actual);
  print(" instead of ");
  print_number(expected);
  print("\n");
}

bool under_tcg(void) {
  uint32_t a = 0x40000000, b, c = 0, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return b == 0x54474354;  // "TCGT"
}

void on_exception(struct Frame* frame) {
  if (frame->vector >= 32 && frame->vector != 0x80 && on_interrupt) {
    on_interrupt((int)frame->vector);
    return;
  }
  last_frame = *frame;
  fault.vector = (int)frame->vector;
  fault.error_code = frame->error_code;
  fault.rip = frame->rip;
  fault.rflags = frame->rflags;
  fault.rsp = frame->rsp;
  uint64_t cr2;
  __asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
  fault.cr2 = cr2;
  if (!recovering) {
    check(false, "exception out of turn", frame->vector, frame->rip);
    finish();
  }
  recovering = false;
  __builtin_longjmp(recovery, 1);
}

__attribute__((noinline)) struct Fault attempt(void (*action)(void*), void* argument) {
  fault.vector = -1;
  fault.error_code = fault.cr2 = fault.rip = 0;
  if (__builtin_setjmp(recovery) == 0) {
    recovering = true;
    action(argument);
    recovering = false;
  } else {
    __asm__ volatile("mov %0, %%ss; mov %0, %%ds; mov %0, %%es" : : "r"(16));
    __asm__ volatile("pushq $2; popfq");
  }
  return fault;
}

void set_gate_present(int vector, bool present) {
  idt[vector].low = (idt[vector].low & ~(1ULL << 47)) | (uint64_t)present << 47;
}

static void set_up(void) {
  out8(0x21, 0xFF);  // the 8259s, whose timer interrupt would look like a double fault
  out8(0xA1, 0xFF);
  for (unsigned i = 0; i < 256; ++i) {
    const uint64_t at = (uint64_t)vectors + 16ULL * i, dpl = i == 0x80 || i == 3 ? 3 : 0;
    const uint64_t ist = i == 8 || i == 12;  // #DF and #SS cannot rely on RSP
    idt[i].low = (at & 0xFFFF) | 8ULL << 16 | ist << 32 | 0x8EULL << 40 | dpl << 45 | (at >> 16 & 0xFFFF) << 48;
    idt[i].high = at >> 32;
  }
  const struct {
    uint16_t limit;
    uint64_t base;
  } __attribute__((packed)) pointer = {sizeof idt - 1, (uint64_t)idt}, gdt_pointer = {sizeof gdt - 1, (uint64_t)gdt};
  __asm__ volatile("lidt %0" : : "m"(pointer));

  const uint64_t base = (uint64_t)tss, stack = (uint64_t)(exception_stack + sizeof exception_stack);
  *(uint64_t*)(tss + 4) = stack;
  *(uint64_t*)(tss + 36) = (uint64_t)(spare_stack + sizeof spare_stack);
  *(uint16_t*)(tss + 102) = 0xFFFF;
  gdt[5] = 103 | (base & 0xFFFFFF) << 16 | 0x89ULL << 40 | (base >> 24 & 0xFF) << 56;
  gdt[6] = base >> 32;
  __asm__ volatile("lgdt %0" : : "m"(gdt_pointer));
  __asm__ volatile("ltr %0" : : "r"((uint16_t)0x28));
  __asm__ volatile("lldt %0" : : "r"((uint16_t)0));

  pdpt[1] = (uint64_t)window_directory | kPresent | kWritable | kUser;
  window_directory[0] = (uint64_t)window | kPresent | kWritable | kUser;
  pdpt[3] = (uint64_t)device_directory | kPresent | kWritable;
  device_directory[0x1F7] = 0xFEE00000 | 0x9B;  // the local APIC, in a page of 2 MiB, not cached
}

void main(void) {
  set_up();
  static const struct {
    const char* name;
    void (*run)(void);
  } kSuites[] = {{"exceptions\n", test_exceptions},
                 {"paging\n", test_paging},
                 {"code writing\n", test_code_writing},
                 {"strings\n", test_strings},
                 {"interrupts\n", test_interrupts}};
  for (unsigned i = 0; i < sizeof kSuites / sizeof *kSuites; ++i) {
    print(kSuites[i].name);
    kSuites[i].run();
  }
  finish();
}
