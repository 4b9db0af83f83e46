// Task switches (SDM vol. 3, ch. 7): by CALL, JMP, IRET, task gates and exceptions; what is saved, busy flags, links,
// NT, T, and what is refused.
#include "protected.h"

enum { kOther = kFreeSelectors, kGate = kOther + 8, kThird = kOther + 16, kSmall = kOther + 24, kDone = 0x80 };
enum { kDb = 1, kTs = 10, kNp = 11, kGp = 13, kNt = 0x4000, kBusy = 2, kAvailable = 0x89, kTsFlag = 8 };

static struct Tss other, third;
static uint8_t other_stack[4096] __attribute__((aligned(16))), third_stack[4096] __attribute__((aligned(16)));

/// What the other task has found.
struct {
  uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi, eflags, cr0, tr, es, fs, word;
} seen;

CODE(task,
     "mov %eax, seen; mov %ecx, seen + 4; mov %edx, seen + 8; mov %ebx, seen + 12; mov %esp, seen + 16\n"
     "mov %ebp, seen + 20; mov %esi, seen + 24; mov %edi, seen + 28; pushfl; popl seen + 32; mov %cr0, %eax; mov %eax, "
     "seen + 36\n"
     "str %eax; mov %eax, seen + 40; mov %es, %eax; mov %eax, seen + 44; mov %fs, %eax; mov %eax, seen + 48\n"
     "mov (%esp), %eax; mov %eax, seen + 52; clts; iret; jmp task");
CODE(task_pops_error, "mov %esp, seen + 16; popl seen + 52; str seen + 40; int $0x80");
CODE(task_jumps_back, "mov %eax, seen; pushfl; popl seen + 32; ljmp $0x28, $0; jmp task_jumps_back");
CODE(do_call, "lcall *(%ebx); back: int $0x80");
CODE(do_jump, "ljmp *(%ebx); int $0x80");
CODE(do_int, "int $0x61; int $0x80");
CODE(do_iret, "iret; int $0x80");
CODE(do_ud, "ud2");
CODE(load_null, "mov %eax, %ds; int $0x80");

static struct {
  uint32_t offset;
  uint16_t selector;
} __attribute__((packed)) target;

static uint64_t tss_descriptor(const void* at, uint32_t limit, unsigned access) {
  return segment((uint32_t)at, limit, access, 0);
}
static bool busy(unsigned selector) {
  return gdt[selector / 8] >> 41 & 1;
}

static void prepare(struct Tss* t, const uint8_t* code, uint8_t* stack_end) {
  *t = (struct Tss){.esp0 = (uint32_t)stack_end,
                    .ss0 = kData,
                    .eip = (uint32_t)code,
                    .eflags = 2,
                    .eax = 0xA1,
                    .ecx = 0xA2,
                    .edx = 0xA3,
                    .ebx = 0xA4,
                    .esp = (uint32_t)stack_end - 64,
                    .ebp = 0xA5,
                    .esi = 0xA6,
                    .edi = 0xA7,
                    .es = kUserData & ~3,
                    .cs = kCode,
                    .ss = kData,
                    .ds = kData,
                    .map = sizeof *t};
  t->es = kData;
}

/// All tasks available but the main one, which is the current one.
static void reset(const uint8_t* code) {
  __asm__ volatile("pushfl; andl $~0x4000, (%%esp); popfl; clts" : : : "memory");
  prepare(&other, code, other_stack + sizeof other_stack);
  prepare(&third, code, third_stack + sizeof third_stack);
  gdt[kOther / 8] = tss_descriptor(&other, sizeof other - 1, kAvailable);
  gdt[kThird / 8] = tss_descriptor(&third, sizeof third - 1, kAvailable);
  gdt[kGate / 8] = gate(kOther, 0, 0x85, 0);
  gdt[kTss / 8] &= ~((uint64_t)kBusy << 40);
  __asm__ volatile("ltr %0" : : "r"((uint16_t)kTss));
  target.selector = kOther;
  tss.link = 0;
  for (unsigned i = 0; i < sizeof seen / 4; ++i) ((uint32_t*)&seen)[i] = 0;
}

static struct Frame caller(const uint8_t* code) {
  struct Frame frame = supervisor_frame(code);
  frame.ebx = (uint32_t)&target;
  frame.esi = 0x51;
  frame.edi = 0xD1;
  frame.eflags = 0x2 | 0x400;  // DF
  return frame;
}

static void calls(void) {
  static const struct {
    const char* what;
    const uint8_t* code;
    uint16_t selector;
  } kRows[] = {{"task: CALL", do_call, kOther}, {"task: CALL by gate", do_call, kGate}, {"task: INT", do_int, 0}};
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    reset(task);
    target.selector = kRows[i].selector;
    idt[0x61] = gate(kOther, 0, 0x85, 0);
    other.trap = 0;
    ((uint32_t*)other.esp)[0] = 0x99;
    struct Frame frame = caller(kRows[i].code);
    expect(kRows[i].what, &frame, kDone, 0);
    CHECK_EQUAL("task: EAX", seen.eax, 0xA1);
    CHECK_EQUAL("task: ECX", seen.ecx, 0xA2);
    CHECK_EQUAL("task: EDX", seen.edx, 0xA3);
    CHECK_EQUAL("task: EBX", seen.ebx, 0xA4);
    CHECK_EQUAL("task: EBP", seen.ebp, 0xA5);
    CHECK_EQUAL("task: ESI", seen.esi, 0xA6);
    CHECK_EQUAL("task: EDI", seen.edi, 0xA7);
    CHECK_EQUAL("task: ESP", seen.esp, (uint32_t)other_stack + sizeof other_stack - 64);
    CHECK_EQUAL("task: NT", seen.eflags, kNt | 2);
    CHECK_EQUAL("task: TS", seen.cr0 & kTsFlag, kTsFlag);
    CHECK_EQUAL("task: TR", seen.tr & 0xFFFF, kOther);
    CHECK_EQUAL("task: nothing pushed", seen.word, 0x99);
    CHECK_EQUAL("task: link", other.link & 0xFFFF, kTss);
    // Back again.
    CHECK_EQUAL("task: back, EIP", last_frame.eip, frame.eip + 4);
    CHECK_EQUAL("task: back, ESI", last_frame.esi, 0x51);
    CHECK_EQUAL("task: back, EDI", last_frame.edi, 0xD1);
    CHECK_EQUAL("task: back, ESP", last_frame.esp, frame.esp - 12 + 12);
    CHECK_EQUAL("task: back, flags", last_frame.eflags & 0x4400, 0x400);
    CHECK_EQUAL("task: back, busy", busy(kTss), true);
    CHECK_EQUAL("task: back, the other is not", busy(kOther), false);
    uint32_t tr;
    __asm__ volatile("str %0" : "=r"(tr));
    CHECK_EQUAL("task: back, TR", tr & 0xFFFF, kTss);
    CHECK_EQUAL("task: saved EIP", tss.eip, frame.eip + 2);
    CHECK_EQUAL("task: saved ESI", tss.esi, 0x51);
    CHECK_EQUAL("task: saved CS", tss.cs & 0xFFFF, kCode);
    CHECK_EQUAL("task: saved flags of the other", other.eflags & kNt, 0);
    // IRET has left the other behind itself: it goes on there.
    CHECK_EQUAL("task: saved EIP of the other", other.eip > (uint32_t)task, true);
  }
}

static void jumps(void) {
  reset(task_jumps_back);
  struct Frame frame = caller(do_jump);
  expect("task: JMP", &frame, kDone, 0);
  CHECK_EQUAL("task: JMP, EAX", seen.eax, 0xA1);
  CHECK_EQUAL("task: JMP, no NT", seen.eflags & kNt, 0);
  CHECK_EQUAL("task: JMP, no link", other.link, 0);
  CHECK_EQUAL("task: JMP and back, busy", busy(kTss), true);
  CHECK_EQUAL("task: JMP and back, the other is not", busy(kOther), false);
  CHECK_EQUAL("task: JMP, saved EIP", tss.eip, frame.eip + 2);
}

static void refusals(void) {
  static const struct {
    const char* what;
    const uint8_t* code;
    uint16_t selector;
    uint8_t access;
    uint32_t limit;
    bool user;
    int vector;
    uint16_t error;
  } kRows[] = {
      {"task: busy", do_call, kOther, 0x8B, 103, false, kGp, kOther},
      {"task: busy, JMP", do_jump, kOther, 0x8B, 103, false, kGp, kOther},
      {"task: absent", do_call, kOther, 0x09, 103, false, kNp, kOther},
      {"task: too short", do_call, kOther, 0x89, 102, false, kTs, kOther},
      {"task: of level 0", do_call, kOther, 0x89, 103, true, kGp, kOther},
      {"task: itself", do_call, kTss, 0x89, 103, false, kGp, kTss},
      {"task: busy, by gate", do_call, kGate, 0x8B, 103, false, kGp, kOther},
      {"task: absent, by gate", do_call, kGate, 0x09, 103, false, kNp, kOther},
      {"task: no TSS, by gate", do_call, kGate, 0x92, 103, false, kGp, kOther},
      {"task: gate of level 0", do_call, kGate, 0x89, 103, true, kGp, kGate},
  };
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    reset(task);
    gdt[kOther / 8] = tss_descriptor(&other, kRows[i].limit, kRows[i].access);
    target.selector = kRows[i].selector;
    struct Frame frame = kRows[i].user ? user_frame(kRows[i].code) : caller(kRows[i].code);
    frame.ebx = (uint32_t)&target;
    expect(kRows[i].what, &frame, kRows[i].vector, kRows[i].error);
    CHECK_EQUAL("task: refused, EIP", last_frame.eip, frame.eip);
    CHECK_EQUAL("task: refused, busy", busy(kTss), true);
  }
  // IRET with NT goes by the link, to a task that is busy.
  reset(task);
  tss.link = kOther;
  struct Frame frame = caller(do_iret);
  frame.eflags = 2;
  // NT is set by POPF, for the frame is entered by an IRET of its own.
  CODE(nested_return, "pushl $0x4002; popfl; iret; int $0x80");
  frame = caller(nested_return);
  expect("task: IRET to one that is not busy", &frame, kTs, kOther);
  tss.link = 0;
  expect("task: IRET to null", &frame, kTs, 0);
  tss.link = kData;
  expect("task: IRET to data", &frame, kTs, kData);
}

/// Exceptions by task gates: error codes are pushed on the new task's stack.
static void exceptions(void) {
  static const struct {
    const char* what;
    const uint8_t* code;
    uint8_t vector;
    bool pushes;
    uint32_t error;
  } kRows[] = {{"task: #GP", load_null, 13, true, 0x1000}, {"task: #UD", do_ud, 6, false, 0}};
  for (unsigned i = 0; i < 2; ++i) {
    reset(task_pops_error);
    const uint64_t saved = idt[kRows[i].vector];
    idt[kRows[i].vector] = gate(kOther, 0, 0x85, 0);
    struct Frame frame = caller(kRows[i].code);
    frame.eax = 0x1000;
    ((uint32_t*)other.esp)[0] = 0x77;
    expect(kRows[i].what, &frame, kDone, 0);
    idt[kRows[i].vector] = saved;
    const uint32_t esp = (uint32_t)other_stack + sizeof other_stack - 64;
    CHECK_EQUAL("task: exception, ESP", seen.esp, kRows[i].pushes ? esp - 4 : esp);
    CHECK_EQUAL("task: exception, error code", seen.word, kRows[i].pushes ? kRows[i].error : 0x77);
    CHECK_EQUAL("task: exception, saved EIP", tss.eip, frame.eip);
    CHECK_EQUAL("task: exception, TR", seen.tr & 0xFFFF, kOther);
    CHECK_EQUAL("task: exception, both busy", busy(kTss) && busy(kOther), true);
    CHECK_EQUAL("task: exception, RF saved", tss.eflags & 0x10000, under_tcg() ? tss.eflags & 0x10000 : 0x10000);
  }
  // The double fault's classical handler.
  reset(task_pops_error);
  const uint64_t saved_df = idt[8], saved_np = idt[13];
  idt[8] = gate(kOther, 0, 0x85, 0);
  idt[13] &= ~(1ULL << 47);
  struct Frame frame = caller(load_null);
  frame.eax = 0x1000;
  expect("task: #DF", &frame, kDone, 0);
  idt[8] = saved_df;
  idt[13] = saved_np;
  CHECK_EQUAL("task: #DF, error code", seen.word, 0);
  CHECK_EQUAL("task: #DF, saved EIP", tss.eip, frame.eip);
}

/// What is wrong in the new TSS is found in the new task, and is its fault: a third task is told.
static void bad_images(void) {
  static const struct {
    const char* what;
    uint32_t offset, value;
    int vector;
    uint32_t error;
  } kRows[] = {
      {"task: bad CS", 0x4C, kData, kTs, kData},
      {"task: null CS", 0x4C, 0, kTs, 0},
      {"task: CS beyond", 0x4C, 0x1000, kTs, 0x1000},
      {"task: bad SS", 0x50, kCode, kTs, kCode},
      {"task: null SS", 0x50, 0, kTs, 0},
      {"task: SS of level 3", 0x50, kUserData, kTs, kUserData & ~3},
      {"task: bad DS", 0x54, kTss, kTs, kTss},
      {"task: bad LDT", 0x60, kData, kTs, kData},
      {"task: ES beyond", 0x48, 0x1008, kTs, 0x1008},
  };
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    reset(task);
    third.eip = (uint32_t)task_pops_error;
    *(uint32_t*)((uint8_t*)&other + kRows[i].offset) = kRows[i].value;
    const uint64_t saved = idt[kRows[i].vector];
    idt[kRows[i].vector] = gate(kThird, 0, 0x85, 0);
    struct Frame frame = caller(do_call);
    expect(kRows[i].what, &frame, kDone, 0);
    idt[kRows[i].vector] = saved;
    CHECK_EQUAL(kRows[i].what, seen.word, kRows[i].error);
    CHECK_EQUAL("task: bad image, TR", seen.tr & 0xFFFF, kThird);
    CHECK_EQUAL("task: bad image, link", third.link & 0xFFFF, kOther);
    CHECK_EQUAL("task: bad image, saved EIP of the caller", tss.eip, frame.eip + 2);
    if (!under_tcg()) CHECK_EQUAL("task: bad image, saved EIP", other.eip, (uint32_t)task);
  }
}

static void trap_bit(void) {
  reset(task);
  other.trap = 1;
  struct Frame frame = caller(do_call);
  __asm__ volatile("mov %0, %%dr6" : : "r"(0xFFFF0FF0));
  const struct Fault fault = run(&frame);
  uint32_t dr6;
  __asm__ volatile("mov %%dr6, %0" : "=r"(dr6));
  CHECK_EQUAL("task: T", fault.vector, kDb);
  CHECK_EQUAL("task: T, EIP", fault.eip, (uint32_t)task);
  CHECK_EQUAL("task: T, DR6", dr6 & 0xE00F, 0x8000);
}

/// A TSS of 16 bits, there and back.
static void small_tasks(void) {
  static uint16_t small[22];
  CODE(small_task, "mov %eax, seen; pushfl; popl seen + 32; mov %esi, seen + 24; iret");
  reset(task);
  for (unsigned i = 0; i < 22; ++i) small[i] = 0;
  // Its IP is 16 bits wide: code from a base of its own.
  gdt[kGate / 8] = segment((uint32_t)small_task, 0xFFFFF, 0x9A, 0xC);
  small[7] = 0;            // IP
  small[8] = 2;            // flags
  small[9] = 0x1234;       // AX
  small[15] = 0x5678;      // SI
  small[17] = kData;       // ES
  small[18] = kGate;       // CS
  small[19] = kSmall + 8;  // SS
  small[20] = kData;       // DS
  small[13] = 4000;        // SP
  gdt[kSmall / 8 + 1] = segment((uint32_t)other_stack, 0xFFFF, 0x92, 0xC);
  gdt[kSmall / 8] = tss_descriptor(small, sizeof small - 1, 0x81);
  target.selector = kSmall;
  struct Frame frame = caller(do_call);
  expect("task: 16 bits", &frame, kDone, 0);
  CHECK_EQUAL("task: 16 bits, AX", seen.eax & 0xFFFF, 0x1234);
  CHECK_EQUAL("task: 16 bits, SI", seen.esi & 0xFFFF, 0x5678);
  CHECK_EQUAL("task: 16 bits, NT", seen.eflags & kNt, kNt);
  CHECK_EQUAL("task: 16 bits, link", small[0], kTss);
  CHECK_EQUAL("task: 16 bits, back", last_frame.esi, 0x51);
  CHECK_EQUAL("task: 16 bits, not busy", busy(kSmall), false);
}

void test_tasks(void) {
  calls();
  jumps();
  refusals();
  exceptions();
  bad_images();
  if (!under_tcg()) trap_bit();  // which TCG ignores
  small_tasks();
  reset(task);
}
