#include "bare.h"
#include "suites.h"

extern void enter(const struct Frame*);
extern const char vectors[];
uint64_t window[512] __attribute__((aligned(4096)));
static uint64_t window_directory[512] __attribute__((aligned(4096))),
    alias_directory[512] __attribute__((aligned(4096))), device_directory[512] __attribute__((aligned(4096)));
struct Gate idt[256];
static uint8_t supervisor_stack[16384] __attribute__((aligned(16))), user_stack[16384] __attribute__((aligned(16)));
static uint8_t exception_stack[16384] __attribute__((aligned(16))), spare_stack[16384] __attribute__((aligned(16)));

static volatile struct Fault fault;
struct Frame last_frame;
void (*on_interrupt)(int vector);
bool (*on_event)(struct Frame* frame);

void on_exception(struct Frame* frame) {
  if (on_event && on_event(frame)) return;
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
  fault.cr2 = read_cr2();
  end_attempt((int)frame->vector, frame->rip);
}

struct Fault attempt(void (*action)(void*), void* argument) {
  fault.vector = -1;
  fault.error_code = fault.cr2 = fault.rip = 0;
  if (!comes_to_its_end(action, argument)) {
    __asm__ volatile("mov %0, %%ss; mov %0, %%ds; mov %0, %%es" : : "r"(16));
    __asm__ volatile("pushq $2; popfq");
  }
  return fault;
}

struct Fault run(const struct Frame* frame) {
  return attempt((void (*)(void*))enter, (void*)frame);
}

struct Frame supervisor_frame(const void* code) {
  return (struct Frame){.rip = (uint64_t)code,
                        .cs = kCode64,
                        .rflags = 2,
                        .rsp = (uint64_t)(supervisor_stack + sizeof supervisor_stack),
                        .ss = kData};
}

struct Frame user_frame(const void* code) {
  return (struct Frame){.rip = (uint64_t)code + kUserAlias,
                        .cs = kUserCode64,
                        .rflags = 2,
                        .rsp = (uint64_t)(user_stack + sizeof user_stack) + kUserAlias,
                        .ss = kUserData};
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
  pdpt[2] = (uint64_t)alias_directory | kPresent | kWritable | kUser;
  for (unsigned i = 0; i < 64; ++i) alias_directory[i] = i * 0x200000ULL | 0x87;
  pdpt[3] = (uint64_t)device_directory | kPresent | kWritable;
  device_directory[0x1F7] = 0xFEE00000 | 0x9B;  // the local APIC, in a page of 2 MiB, not cached
  device_directory[0x1F6] = 0xFEC00000 | 0x9B;  // and the IOAPIC
}

static void restore(void) {
  on_interrupt = 0;
  on_event = 0;
}

void main(void) {
  set_up();
  static const struct Suite kSuites[] = {{"exceptions", test_exceptions, 1},
                                         {"paging", test_paging, 1},
                                         {"code-writing", test_code_writing, 1},
                                         {"strings", test_strings, 1},
                                         {"strings-interrupted", test_strings_interrupted, 1},
                                         {"interrupts", test_interrupts, 1},
                                         {"selectors", test_selectors, 1},
                                         {"gates", test_gates, 1},
                                         {"debug", test_debug, 1},
                                         {"syscalls", test_syscalls, 1},
                                         {"double-faults", test_double_faults, 1},
                                         {"priorities", test_priorities, 1},
                                         {"shadows", test_shadows, 1},
                                         {"paging-levels", test_paging_levels, 1},
                                         {"fpu", test_fpu, 1},
                                         {"xstate", test_xstate, 1},
                                         {"ipis", test_ipis, 4},
                                         {"shared-memory", test_shared_memory, 4},
                                         {"code-reading", test_code_reading, 1},
                                         {"apic", test_apic, 1},
                                         {"io-apic", test_io_apic, 1},
                                         {"pic", test_pic, 1},
                                         {"pit", test_pit, 1},
                                         {"rtc", test_rtc, 1},
                                         {"triple-fault-idt", test_triple_fault_idt, 0},
                                         {"triple-fault-gates", test_triple_fault_gates, 0},
                                         {"triple-fault-stacks", test_triple_fault_stacks, 0},
                                         {"flags", test_flags, 1},
                                         {"code-mapping", test_code_mapping, 1},
                                         {"toggles", test_toggles, 1},
                                         {"interrupted", test_interrupted, 1}};
  run_suites(kSuites, sizeof kSuites / sizeof *kSuites, restore);
}
