// Call gates, returns and interrupts of 32-bit protected mode, with stacks for inner levels (SDM vol. 3, 5.8, 6.12).
#include "protected.h"

enum {
  kSlot = kFreeSelectors,
  kTarget = kSlot + 8,
  kStack = kSlot + 16,
  kDone = 0x80,
  kTs = 10,
  kNp = 11,
  kSs = 12,
  kGp = 13
};
enum { kCode32 = 0x9A, kFlat = 0xC, kVector = 0x60 };

CODE(landing, "int $0x80");
CODE(do_call, "lcall *(%ebx); landed_back: int $0x80");
CODE(do_jump, "ljmp *(%ebx)");
CODE(do_int, "int $0x60; int $0x80");
CODE(do_retf, "lret");
CODE(return_8, "lret $8");
CODE(do_iret, "iret");

static struct {
  uint32_t offset;
  uint16_t selector;
} __attribute__((packed)) target;

static void call_gates(void) {
  static const struct {
    const char* what;
    bool user, jump;
    uint8_t gate, access, flags, parameters;
    int vector;
    uint16_t error;
  } kRows[] = {
      {"call gate: same level", false, false, 0x8C, kCode32, kFlat, 0, kDone, 0},
      {"call gate: inwards", true, false, 0xEC, kCode32, kFlat, 0, kDone, 0},
      {"call gate: parameters", true, false, 0xEC, kCode32, kFlat, 3, kDone, 0},
      {"call gate: parameters, same level", false, false, 0xEC, kCode32, kFlat, 3, kDone, 0},
      {"call gate: 16 bits", true, false, 0xE4, kCode32, kFlat, 2, kDone, 0},
      {"call gate: conforming", true, false, 0xEC, 0x9E, kFlat, 0, kDone, 0},
      {"call gate: jump", false, true, 0x8C, kCode32, kFlat, 0, kDone, 0},
      {"call gate: jump inwards", true, true, 0xEC, kCode32, kFlat, 0, kGp, kTarget},
      {"call gate: level 0 for users", true, false, 0x8C, kCode32, kFlat, 0, kGp, kSlot},
      {"call gate: absent", true, false, 0x6C, kCode32, kFlat, 0, kNp, kSlot},
      {"call gate: to absent code", true, false, 0xEC, 0x1A, kFlat, 0, kNp, kTarget},
      {"call gate: to data", true, false, 0xEC, 0x92, kFlat, 0, kGp, kTarget},
      {"call gate: outwards", false, false, 0x8C, 0xFA, kFlat, 0, kGp, kTarget},
  };
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    if (under_tcg() && kRows[i].access == 0x9E) continue;  // TCG changes the level
    const bool wide = (kRows[i].gate & 15) == 0xC;
    // A 16-bit offset needs a base.
    gdt[kTarget / 8] = segment(wide ? 0 : (uint32_t)landing, 0xFFFFF, kRows[i].access, kRows[i].flags);
    gdt[kSlot / 8] = gate(kTarget, wide ? landing : 0, kRows[i].gate, kRows[i].parameters);
    target.selector = kSlot;
    const uint8_t* code = kRows[i].jump ? do_jump : do_call;
    struct Frame frame = kRows[i].user ? user_frame(code) : supervisor_frame(code);
    frame.ebx = (uint32_t)&target;
    frame.esp -= 64;
    for (unsigned at = 0; at < 8; ++at) ((uint32_t*)frame.esp)[at] = 0x01010000 * (at + 1) + at;
    expect(kRows[i].what, &frame, kRows[i].vector, kRows[i].error);
    if (kRows[i].vector != kDone) continue;
    const bool stays = kRows[i].access == 0x9E && kRows[i].user;
    CHECK_EQUAL("call gate: CS", last_frame.cs, kTarget | (stays ? 3 : 0));
    if (kRows[i].jump) {
      CHECK_EQUAL("call gate: a jump pushes nothing", last_frame.esp, frame.esp);
      continue;
    }
    const bool inner = kRows[i].user && !stays;
    const unsigned size = wide ? 4 : 2, count = inner ? kRows[i].parameters : 0;
    CHECK_EQUAL("call gate: ESP", last_frame.esp, inner ? tss.esp0 - (4 + count) * size : frame.esp - 2 * size);
    if (wide) {
      const uint32_t* stack = (const uint32_t*)last_frame.esp;
      CHECK_EQUAL("call gate: EIP", stack[0], frame.eip + 2);
      CHECK_EQUAL("call gate: saved CS", stack[1] & 0xFFFF, frame.cs);
      for (unsigned at = 0; at < count; ++at)
        CHECK_EQUAL("call gate: parameter", stack[2 + at], 0x01010000 * (at + 1) + at);
      if (inner) CHECK_EQUAL("call gate: saved ESP", stack[2 + count], frame.esp);
      if (inner) CHECK_EQUAL("call gate: saved SS", stack[3 + count] & 0xFFFF, kUserData);
    } else {
      const uint16_t* stack = (const uint16_t*)last_frame.esp;
      CHECK_EQUAL("call gate: IP", stack[0], (uint16_t)(frame.eip + 2));
      for (unsigned at = 0; at < count; ++at)
        CHECK_EQUAL("call gate: parameter of 16 bits", stack[2 + at], ((const uint16_t*)frame.esp)[at]);
      CHECK_EQUAL("call gate: saved SP", stack[2 + count], (uint16_t)frame.esp);
    }
  }
  // There and back, with parameters taken off both stacks.
  gdt[kTarget / 8] = segment(0, 0xFFFFF, kCode32, kFlat);
  gdt[kSlot / 8] = gate(kTarget, return_8, 0xEC, 2);
  struct Frame frame = user_frame(do_call);
  frame.ebx = (uint32_t)&target;
  frame.esp -= 64;
  expect("call gate: there and back", &frame, kDone, 0);
  CHECK_EQUAL("call gate: back at level 3", last_frame.cs, kUserCode);
  CHECK_EQUAL("call gate: parameters released", last_frame.esp, frame.esp + 8);
}

/// The stack that the TSS names for level 0.
static void inner_stacks(void) {
  static const struct {
    const char* what;
    uint16_t selector;
    uint8_t access;
    uint32_t limit, esp;
    int vector;
    uint16_t error;
  } kRows[] = {
      {"inner stack: fine", kStack, 0x92, 0xFFFFF, 0, kDone, 0},
      {"inner stack: null", 0, 0x92, 0xFFFFF, 0, kTs, 0},
      {"inner stack: RPL 3", kStack | 3, 0x92, 0xFFFFF, 0, kTs, kStack},
      {"inner stack: DPL 3", kStack, 0xF2, 0xFFFFF, 0, kTs, kStack},
      {"inner stack: read-only", kStack, 0x90, 0xFFFFF, 0, kTs, kStack},
      {"inner stack: code", kStack, 0x9A, 0xFFFFF, 0, kTs, kStack},
      {"inner stack: absent", kStack, 0x12, 0xFFFFF, 0, kSs, kStack},
      {"inner stack: beyond the GDT", 0x1000, 0x92, 0xFFFFF, 0, kTs, 0x1000},
  };
  const struct Tss saved = tss;
  static uint8_t own[1024] __attribute__((aligned(16)));
  // The fault's handler needs a stack of its own: conforming code stays at level 3.
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    if (under_tcg() && kRows[i].vector == kSs) continue;  // #TS with TCG
    // Level 1's stack is the one that is wrong; exceptions go to level 0.
    gdt[kTarget / 8] = segment(0, 0xFFFFF, 0xBA, kFlat);
    gdt[kSlot / 8] = gate((uint16_t)(kTarget | 1), landing, 0xEC, 0);
    const uint16_t selector =
        kRows[i].selector == kStack || kRows[i].selector == 0x1000 ? kRows[i].selector | 1 : kRows[i].selector;
    gdt[kStack / 8] =
        segment(0, kRows[i].limit, (uint8_t)(kRows[i].access | ((kRows[i].access & 0x60) ? 0 : 0x20)), kFlat);
    tss.esp1 = (uint32_t)(own + sizeof own);
    tss.ss1 = selector;
    target.selector = kSlot;
    struct Frame frame = user_frame(do_call);
    frame.ebx = (uint32_t)&target;
    expect(kRows[i].what, &frame, kRows[i].vector, kRows[i].error);
    if (kRows[i].vector == kDone) CHECK_EQUAL("inner stack: level 1", last_frame.cs, kTarget | 1);
  }
  tss = saved;
}

static uint32_t return_area[256];
static uint32_t* const image = return_area + 240;

static void returns(void) {
  enum { kOther = kSlot };
  static const struct {
    const char* what;
    uint8_t access;
    uint16_t cs, ss;
    int vector;
    uint16_t error;
  } kRows[] = {
      {"return: outwards", 0xFA, kOther | 3, kUserData, kDone, 0},
      {"return: level 0 code with RPL 3", 0x9A, kOther | 3, kUserData, kGp, kOther},
      {"return: conforming", 0x9E, kOther | 3, kUserData, kDone, 0},
      {"return: absent", 0x7A, kOther | 3, kUserData, kNp, kOther},
      {"return: data", 0xF2, kOther | 3, kUserData, kGp, kOther},
      {"return: null SS", 0xFA, kOther | 3, 0, kGp, 0},
      {"return: SS of level 0", 0xFA, kOther | 3, kData, kGp, kData},
      {"return: SS with RPL 0", 0xFA, kOther | 3, kUserData & ~3, kGp, kUserData & ~3},
      {"return: same level", 0x9A, kOther, kData, kDone, 0},
  };
  for (unsigned iret = 0; iret < 2; ++iret) {
    for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
      gdt[kOther / 8] = segment(0, 0xFFFFF, kRows[i].access, kFlat);
      uint32_t* at = image;
      *at++ = (uint32_t)landing;
      *at++ = kRows[i].cs;
      if (iret) *at++ = 2;
      *at++ = (uint32_t)(return_area + 128);
      *at++ = kRows[i].ss;
      struct Frame frame = supervisor_frame(iret ? do_iret : do_retf);
      frame.esp = (uint32_t)image;
      expect(kRows[i].what, &frame, kRows[i].vector, kRows[i].error);
      if (kRows[i].vector != kDone) continue;
      CHECK_EQUAL("return: CS", last_frame.cs, kRows[i].cs);
      if (kRows[i].cs & 3) {
        CHECK_EQUAL("return: ESP", last_frame.esp, (uint32_t)(return_area + 128));
        CHECK_EQUAL("return: DS has gone", last_frame.ds & 0xFFFF, 0);
      } else {
        CHECK_EQUAL("return: ESP, same level", last_frame.esp, (uint32_t)(image + (iret ? 3 : 2)));
      }
    }
  }
  // Beyond the limit of the code that it returns to.
  gdt[kOther / 8] = segment(0, 0xFFF, 0xFA, 4);
  image[0] = 0x1000;
  image[1] = kOther | 3;
  image[2] = (uint32_t)(return_area + 128);
  image[3] = kUserData;
  struct Frame frame = supervisor_frame(do_retf);
  frame.esp = (uint32_t)image;
  expect("return: beyond the limit", &frame, kGp, 0);
}

static void interrupts(void) {
  enum { kIdtError = kVector * 8 + 2 };
  static const struct {
    const char* what;
    bool user;
    uint8_t gate, access;
    int vector;
    uint16_t error;
  } kRows[] = {
      {"INT: interrupt gate", false, 0x8E, kCode32, kDone, 0}, {"INT: trap gate", false, 0x8F, kCode32, kDone, 0},
      {"INT: inwards", true, 0xEE, kCode32, kDone, 0},         {"INT: level 0", true, 0x8E, kCode32, kGp, kIdtError},
      {"INT: absent", true, 0x6E, kCode32, kNp, kIdtError},    {"INT: call gate", false, 0x8C, kCode32, kGp, kIdtError},
      {"INT: LDT", false, 0x82, kCode32, kGp, kIdtError},      {"INT: data", false, 0x8E, 0x92, kGp, kTarget},
      {"INT: outwards", false, 0x8E, 0xFA, kGp, kTarget},      {"INT: absent code", true, 0xEE, 0x1A, kNp, kTarget},
      {"INT: conforming", true, 0xEE, 0x9E, kDone, 0},
  };
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    gdt[kTarget / 8] = segment(0, 0xFFFFF, kRows[i].access, kFlat);
    idt[kVector] = gate(kTarget, landing, kRows[i].gate, 0);
    struct Frame frame = kRows[i].user ? user_frame(do_int) : supervisor_frame(do_int);
    frame.eflags = 0x202;
    expect(kRows[i].what, &frame, kRows[i].vector, kRows[i].error);
    if (kRows[i].vector != kDone) continue;
    const bool stays = kRows[i].access == 0x9E && kRows[i].user;
    CHECK_EQUAL("INT: CS", last_frame.cs, kTarget | (stays ? 3 : 0));
    CHECK_EQUAL("INT: IF", last_frame.eflags & 0x200, kRows[i].gate == 0x8F ? 0x200 : 0);
    const bool inner = kRows[i].user && !stays;
    CHECK_EQUAL("INT: ESP", last_frame.esp, inner ? tss.esp0 - 20 : frame.esp - 12);
    const uint32_t* stack = (const uint32_t*)last_frame.esp;
    CHECK_EQUAL("INT: EIP", stack[0], frame.eip + 2);
    CHECK_EQUAL("INT: saved CS", stack[1] & 0xFFFF, frame.cs);
    CHECK_EQUAL("INT: saved flags", stack[2] & 0x200, 0x200);
    if (inner) CHECK_EQUAL("INT: saved ESP", stack[3], frame.esp);
    if (inner) CHECK_EQUAL("INT: saved SS", stack[4] & 0xFFFF, kUserData);
  }
  // Through a gate of 16 bits.
  gdt[kTarget / 8] = segment((uint32_t)landing, 0xFFFFF, kCode32, kFlat);
  idt[kVector] = gate(kTarget, 0, 0x86, 0);
  struct Frame frame = supervisor_frame(do_int);
  expect("INT: 16 bits", &frame, kDone, 0);
  CHECK_EQUAL("INT: 16 bits, ESP", last_frame.esp, frame.esp - 6);
}

CODE(do_sysenter, "sysenter; int $0x80");
CODE(do_sysexit, "sysexit");
CODE(do_syscall, "syscall; int $0x80");
CODE(do_sysret, "sysret");

static void fast_calls(void) {
  write_msr(0x174, kCode);
  write_msr(0x175, (uint32_t)(return_area + 200));
  write_msr(0x176, (uint32_t)landing);
  struct Frame frame = user_frame(do_sysenter);
  frame.eflags = 0x202;
  expect("SYSENTER", &frame, kDone, 0);
  CHECK_EQUAL("SYSENTER: CS", last_frame.cs, kCode);
  CHECK_EQUAL("SYSENTER: EIP", last_frame.eip, (uint32_t)landing + 2);
  CHECK_EQUAL("SYSENTER: ESP", last_frame.esp, (uint32_t)(return_area + 200));
  CHECK_EQUAL("SYSENTER: IF", last_frame.eflags & 0x200, 0);
  frame = supervisor_frame(do_sysexit);
  frame.edx = (uint32_t)landing;
  frame.ecx = (uint32_t)(return_area + 100);
  expect("SYSEXIT", &frame, kDone, 0);
  CHECK_EQUAL("SYSEXIT: CS", last_frame.cs, kUserCode);
  CHECK_EQUAL("SYSEXIT: SS", last_frame.ss & 0xFFFF, kUserData);
  CHECK_EQUAL("SYSEXIT: ESP", last_frame.esp, (uint32_t)(return_area + 100));
  frame = user_frame(do_sysexit);
  expect("SYSEXIT: users", &frame, kGp, 0);
  write_msr(0x174, 0);
  frame = user_frame(do_sysenter);
  expect("SYSENTER: null", &frame, kGp, 0);

  uint32_t a = 0, b, c, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
  if (b != 0x68747541) return;  // AMD alone has SYSCALL here
  write_msr(0xC0000080, 1);
  write_msr(0xC0000081, (uint64_t)0x13 << 48 | (uint64_t)kCode << 32 | (uint32_t)landing);
  frame = user_frame(do_syscall);
  frame.eflags = 0x202;
  expect("SYSCALL", &frame, kDone, 0);
  CHECK_EQUAL("SYSCALL: CS", last_frame.cs, kCode);
  CHECK_EQUAL("SYSCALL: ECX", last_frame.ecx, frame.eip + 2);
  CHECK_EQUAL("SYSCALL: EIP", last_frame.eip, (uint32_t)landing + 2);
  CHECK_EQUAL("SYSCALL: IF", last_frame.eflags & 0x200, 0);
  frame = supervisor_frame(do_sysret);
  frame.ecx = (uint32_t)landing;
  expect("SYSRET", &frame, kDone, 0);
  CHECK_EQUAL("SYSRET: CS", last_frame.cs, 0x13);
  CHECK_EQUAL("SYSRET: SS", last_frame.ss & 0xFFFF, 0x1B);
  CHECK_EQUAL("SYSRET: IF", last_frame.eflags & 0x200, 0x200);
  write_msr(0xC0000080, 0);
}

void test_gates(void) {
  call_gates();
  inner_stacks();
  returns();
  interrupts();
  fast_calls();
}
