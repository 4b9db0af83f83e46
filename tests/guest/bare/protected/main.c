#include "../suites.h"
#include "protected.h"

extern const char vectors[];
extern void enter(const struct Frame*);

uint64_t idt[256];
struct Tss tss;
static uint8_t exception_stack[16384] __attribute__((aligned(16))),
    supervisor_stack[16384] __attribute__((aligned(16))), user_stack[16384] __attribute__((aligned(16)));

static volatile struct Fault fault;
struct Frame last_frame;
bool (*on_event)(struct Frame* frame);

void on_exception(struct Frame* frame) {
  if (on_event && on_event(frame)) return;
  last_frame = *frame;
  if ((frame->cs & 3) == 0 && (frame->eflags & 0x20000) == 0) {
    last_frame.esp = (uint32_t)&frame->esp;
    __asm__ volatile("mov %%ss, %0" : "=r"(last_frame.ss));
  }
  fault.vector = (int)frame->vector;
  fault.error_code = frame->error_code;
  fault.eip = frame->eip;
  fault.cr2 = read_cr2();
  end_attempt((int)frame->vector, frame->eip);
}

struct Fault attempt(void (*action)(void*), void* argument) {
  fault.vector = -1;
  fault.error_code = fault.cr2 = fault.eip = 0;
  if (!comes_to_its_end(action, argument)) {
    __asm__ volatile("mov %0, %%ss; mov %0, %%ds; mov %0, %%es" : : "r"(kData));
    __asm__ volatile("mov %0, %%fs; mov %0, %%gs" : : "r"(0));
    __asm__ volatile("pushl $2; popfl");
  }
  return fault;
}

struct Fault run(const struct Frame* frame) {
  return attempt((void (*)(void*))enter, (void*)frame);
}

void expect(const char* what, const struct Frame* frame, int vector, uint32_t code) {
  const struct Fault got = run(frame);
  check(got.vector == vector && got.error_code == code, what, (uint64_t)got.vector << 32 | got.error_code,
        (uint64_t)vector << 32 | code);
}

struct Frame supervisor_frame(const void* code) {
  return (struct Frame){.es = kData,
                        .ds = kData,
                        .eip = (uint32_t)code,
                        .cs = kCode,
                        .eflags = 2,
                        .esp = (uint32_t)(supervisor_stack + sizeof supervisor_stack),
                        .ss = kData};
}

struct Frame user_frame(const void* code) {
  return (struct Frame){.es = kUserData,
                        .ds = kUserData,
                        .eip = (uint32_t)code,
                        .cs = kUserCode,
                        .eflags = 2,
                        .esp = (uint32_t)(user_stack + sizeof user_stack),
                        .ss = kUserData};
}

static void set_up(void) {
  out8(0x21, 0xFF);
  out8(0xA1, 0xFF);
  for (unsigned i = 0; i < 256; ++i)
    idt[i] = gate(kCode, vectors + 16 * i, i == 3 || i == 4 || i == 0x80 ? 0xEE : 0x8E, 0);
  const struct {
    uint16_t limit;
    uint32_t base;
  } __attribute__((packed)) pointer = {sizeof idt - 1, (uint32_t)idt};
  __asm__ volatile("lidt %0" : : "m"(pointer));
  tss.esp0 = (uint32_t)(exception_stack + sizeof exception_stack);
  tss.ss0 = kData;
  tss.map = sizeof tss;
  gdt[kTss / 8] = segment((uint32_t)&tss, sizeof tss - 1, 0x89, 0);
  __asm__ volatile("ltr %0" : : "r"((uint16_t)kTss));
}

static void restore(void) {
  on_event = 0;
}

void main(void) {
  set_up();
  static const struct Suite kSuites[] = {{"segments", test_segments, 1},
                                         {"gates", test_gates, 1},
                                         {"tasks", test_tasks, 1},
                                         {"paging", test_paging, 1},
                                         {"virtual-8086", test_virtual_8086, 1},
                                         {"hot-segments", test_hot_segments, 1},
                                         {"real-exceptions", test_real_exceptions, 1},
                                         {"real-limits", test_real_limits, 1},
                                         {"real-stacks", test_real_stacks, 1},
                                         {"real-strings", test_real_strings, 1},
                                         {"mode-switches", test_mode_switches, 1},
                                         {"real-interrupts", test_real_interrupts, 1}};
  run_suites(kSuites, sizeof kSuites / sizeof *kSuites, restore);
}
