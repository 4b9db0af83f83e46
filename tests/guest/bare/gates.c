// Far transfers and gates of long mode (SDM vol. 3, 5.8 and 6.14; vol. 2, CALL, RET, IRET, INT n).
#include "bare.h"

enum { kSlot = kFreeSelectors, kTarget = kSlot + 16, kVector = 0x60, kDone = 0x80, kNp = 11, kSs = 12, kGp = 13 };
enum { kCode = 0x9A, kLong = 0xA, kWide = 0xC };

CODE(landing, "mov %ds, %edx; int $0x80");
CODE(do_retf, "lretq");
CODE(do_iret, "iretq");
CODE(do_call, "lcall *(%rbx)");
CODE(do_jump, "ljmp *(%rbx)");
CODE(do_int, "int $0x60");
CODE(vector_60, "int $0x80");

static uint64_t descriptor(uint64_t access, uint64_t flags) {
  return 0x000F00000000FFFF | access << 40 | flags << 52;
}

static void put_gate(uint64_t* at, uint64_t type, uint16_t selector, uint64_t offset) {
  at[0] = (offset & 0xFFFF) | (uint64_t)selector << 16 | type << 40 | (offset >> 16 & 0xFFFF) << 48;
  at[1] = offset >> 32;
}

static void expect(const char* what, const struct Frame* frame, int vector, uint64_t code) {
  const struct Fault fault = run(frame);
  check(fault.vector == vector && fault.error_code == code, what, (uint64_t)fault.vector << 32 | fault.error_code,
        (uint64_t)vector << 32 | code);
}

/// What returns pop; the handler of what comes next works below.
static uint64_t return_stack[512];
static uint64_t* const image = return_stack + 500;

static void put_image(uint64_t rip, uint64_t cs, uint64_t rflags, uint64_t rsp, uint64_t ss) {
  image[0] = rip;
  image[1] = cs;
  image[2] = rflags;
  image[3] = rsp;
  image[4] = ss;
}

/// RETF and IRETQ at level 0, to a descriptor of every kind.
static void returns(void) {
  static const struct {
    const char* what;
    uint8_t access, flags, rpl;
    uint16_t ss;
    uint64_t rip;  // 0: landing
    int vector;
    uint16_t error;
  } kRows[] = {
      {"return: same level", kCode, kLong, 0, kData, 0, kDone, 0},
      {"return: conforming", 0x9E, kLong, 0, kData, 0, kDone, 0},
      {"return: L and D", kCode, 0xE, 0, kData, 0, kGp, kSlot},
      {"return: to data", 0x92, kWide, 0, kData, 0, kGp, kSlot},
      {"return: to a TSS", 0x89, 0, 0, kData, 0, kGp, kSlot},
      {"return: absent", 0x1A, kLong, 0, kData, 0, kNp, kSlot},
      {"return: DPL 3 with RPL 0", 0xFA, kLong, 0, kData, 0, kGp, kSlot},
      {"return: not canonical", kCode, kLong, 0, kData, 1ULL << 47, kGp, 0},
      {"return: compatibility mode", kCode, kWide, 0, kData, 0, kDone, 0},
      {"return: user", 0xFA, kLong, 3, kUserData, 0, kDone, 0},
      {"return: user, compatibility mode", 0xFA, kWide, 3, kUserData, 0, kDone, 0},
      {"return: user, conforming", 0x9E, kLong, 3, kUserData, 0, kDone, 0},
      {"return: DPL 0 with RPL 3", kCode, kLong, 3, kUserData, 0, kGp, kSlot},
      {"return: user with null SS", 0xFA, kLong, 3, 3, 0, kGp, 0},
      {"return: user with SS of level 0", 0xFA, kLong, 3, kData, 0, kGp, kData},
      {"return: level 1 with null SS", 0xBA, kLong, 1, 1, 0, kDone, 0},
      {"return: level 1 with null SS, compatibility mode", 0xBA, kWide, 1, 1, 0, kGp, 0},
  };
  for (int iret = 0; iret < 2; ++iret) {
    for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
      // TCG enters code that is both of 64 and of 32 bits and lets null SS into level 1 of compatibility mode; its
      // non-canonical addresses fault when they are fetched from.
      if (under_tcg() && (kRows[i].rip != 0 || kRows[i].flags == 0xE || (kRows[i].ss == 1 && kRows[i].flags == kWide)))
        continue;
      gdt[kSlot / 8] = descriptor(kRows[i].access, kRows[i].flags);
      const uint64_t rip = kRows[i].rip ? kRows[i].rip : (uint64_t)landing + (kRows[i].rpl ? kUserAlias : 0);
      put_image(rip, kSlot | kRows[i].rpl, 0x200000 | 2, kUserAlias + 0x9000, kRows[i].ss);
      if (!iret) {
        image[2] = image[3];
        image[3] = image[4];
      }
      struct Frame frame = supervisor_frame(iret ? do_iret : do_retf);
      frame.rsp = (uint64_t)image;
      expect(kRows[i].what, &frame, kRows[i].vector, kRows[i].error);
      if (kRows[i].vector != kDone) continue;
      CHECK_EQUAL("return: CS", last_frame.cs, kSlot | kRows[i].rpl);
      if (kRows[i].rpl) CHECK_EQUAL("return: SS", last_frame.ss, kRows[i].ss);
      if (kRows[i].rpl) CHECK_EQUAL("return: RSP", last_frame.rsp, kUserAlias + 0x9000);
      // What user code may not use has gone from DS.
      CHECK_EQUAL("return: DS", last_frame.rdx & 0xFFFF, kRows[i].rpl ? 0 : kData);
    }
  }
  put_image((uint64_t)landing, 0, 2, 0x9000, kData);
  struct Frame frame = supervisor_frame(do_iret);
  frame.rsp = (uint64_t)image;
  expect("return: null CS", &frame, kGp, 0);
  image[1] = 0x1000;
  expect("return: CS beyond the GDT", &frame, kGp, 0x1000);
  image[1] = kCode64;
  image[4] = 3;
  if (!under_tcg()) expect("IRET: null SS with a wrong RPL", &frame, kGp, 0);
  image[4] = 0;
  expect("IRET: null SS", &frame, kDone, 0);
  CHECK_EQUAL("IRET: RSP in any case", last_frame.rsp, 0x9000);
  image[2] = 0x4002;
  expect("IRET: NT in the image", &frame, kDone, 0);
  frame.rflags = 0x4002;
  expect("IRET: with NT", &frame, kGp, 0);
  // Users may not return inwards.
  put_image((uint64_t)landing, kCode64, 2, 0x9000, kData);
  frame = user_frame(do_iret);
  frame.rsp = (uint64_t)image + kUserAlias;
  expect("IRET: inwards", &frame, kGp, kCode64);
}

/// Which bits of RFLAGS IRET loads at which level.
static void returned_flags(void) {
  for (unsigned iopl = 0; iopl < 4; iopl += 3) {
    put_image((uint64_t)landing + kUserAlias, kUserCode64, 0x257EFF, kUserAlias + 0x9000, kUserData);  // all but TF
    struct Frame frame = user_frame(do_iret);
    frame.rsp = (uint64_t)image + kUserAlias;
    frame.rflags = 2 | iopl << 12;
    CHECK_EQUAL("IRET: user", run(&frame).vector, kDone);
    const uint64_t changed = last_frame.rflags & 0x247200;
    CHECK_EQUAL("IRET: flags of users", changed, 0x244000 | iopl << 12 | (iopl == 3 ? 0x200 : 0));
  }
}

/// Call gates at every level. The gate is at kSlot, its target at kTarget.
static void call_gates(void) {
  enum { kFar = 0, kJump = 1 };
  static const struct {
    const char* what;
    bool user, jump;
    uint8_t gate, access, flags;
    uint64_t offset;
    int vector;
    uint16_t error;
  } kRows[] = {
      {"call gate: same level", false, kFar, 0x8C, kCode, kLong, 0, kDone, 0},
      {"call gate: jump", false, kJump, 0x8C, kCode, kLong, 0, kDone, 0},
      {"call gate: inwards", true, kFar, 0xEC, kCode, kLong, 0, kDone, 0},
      {"call gate: conforming", true, kFar, 0xEC, 0x9E, kLong, 0, kDone, 0},
      {"call gate: conforming jump", true, kJump, 0xEC, 0x9E, kLong, 0, kDone, 0},
      {"call gate: user to user", true, kFar, 0xEC, 0xFA, kLong, 0, kDone, 0},
      {"call gate: jump inwards", true, kJump, 0xEC, kCode, kLong, 0, kGp, kTarget},
      {"call gate: outwards", false, kFar, 0x8C, 0xFA, kLong, 0, kGp, kTarget},
      {"call gate: of level 0 for users", true, kFar, 0x8C, kCode, kLong, 0, kGp, kSlot},
      {"call gate: absent", false, kFar, 0x0C, kCode, kLong, 0, kNp, kSlot},
      {"call gate: absent and of level 0", true, kFar, 0x0C, kCode, kLong, 0, kGp, kSlot},
      {"call gate: to absent code", false, kFar, 0x8C, 0x1A, kLong, 0, kNp, kTarget},
      {"call gate: to 32-bit code", false, kFar, 0x8C, kCode, kWide, 0, kGp, kTarget},
      {"call gate: to data", false, kFar, 0x8C, 0x92, kWide, 0, kGp, kTarget},
      {"call gate: not canonical", false, kFar, 0x8C, kCode, kLong, 1ULL << 60, kGp, 0},
      {"call gate: of 16 bits", false, kFar, 0x84, kCode, kLong, 0, kGp, kSlot},
      {"call gate: task gate", false, kFar, 0x85, kCode, kLong, 0, kGp, kSlot},
      {"call gate: TSS", false, kJump, 0x89, kCode, kLong, 0, kGp, kSlot},
      {"call gate: interrupt gate", false, kFar, 0x8E, kCode, kLong, 0, kGp, kSlot},
  };
  static struct {
    uint32_t offset;
    uint16_t selector;
  } __attribute__((packed)) target;
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    if (under_tcg() && kRows[i].offset != 0) continue;
    // Conforming code and a user's own code run at their level, so at the user's addresses.
    const bool stays_user = kRows[i].user && kRows[i].access != kCode;
    const uint64_t rip = kRows[i].offset ? kRows[i].offset : (uint64_t)landing + (stays_user ? kUserAlias : 0);
    put_gate(&gdt[kSlot / 8], kRows[i].gate, kTarget, rip);
    gdt[kTarget / 8] = descriptor(kRows[i].access, kRows[i].flags);
    target.selector = kSlot;
    const uint8_t* code = kRows[i].jump ? do_jump : do_call;
    struct Frame frame = kRows[i].user ? user_frame(code) : supervisor_frame(code);
    frame.rbx = (uint64_t)&target + (kRows[i].user ? kUserAlias : 0);
    const uint64_t next = frame.rip + 2, rsp = frame.rsp;
    expect(kRows[i].what, &frame, kRows[i].vector, kRows[i].error);
    if (kRows[i].vector != kDone) continue;
    // TCG takes the DPL for the RPL.
    if (!under_tcg() || kRows[i].access != 0x9E)
      CHECK_EQUAL("call gate: CS", last_frame.cs, kTarget | (stays_user ? 3 : 0));
    if (kRows[i].jump) {
      CHECK_EQUAL("call gate: a jump pushes nothing", last_frame.rsp, rsp);
      continue;
    }
    const uint64_t* stack = (const uint64_t*)last_frame.rsp;
    CHECK_EQUAL("call gate: return address", stack[0], next);
    CHECK_EQUAL("call gate: return CS", stack[1], kRows[i].user ? kUserCode64 : kCode64);
    if (!kRows[i].user || stays_user) {
      CHECK_EQUAL("call gate: stack", last_frame.rsp, rsp - 16);
      continue;
    }
    CHECK_EQUAL("call gate: inner stack", last_frame.rsp, *(uint64_t*)(tss + 4) - 32);
    CHECK_EQUAL("call gate: outer RSP", stack[2], rsp);
    CHECK_EQUAL("call gate: outer SS", stack[3], kUserData);
    CHECK_EQUAL("call gate: inner SS is null", last_frame.ss, 0);
  }
  put_gate(&gdt[kSlot / 8], 0x8C, kTarget, (uint64_t)landing);
  gdt[kSlot / 8 + 1] |= 1ULL << 40;
  gdt[kTarget / 8] = descriptor(kCode, kLong);
  struct Frame frame = supervisor_frame(do_call);
  frame.rbx = (uint64_t)&target;
  if (!under_tcg()) expect("call gate: a type in the upper half", &frame, kGp, kSlot);
  put_gate(&gdt[kSlot / 8], 0x8C, 0, (uint64_t)landing);
  expect("call gate: to null", &frame, kGp, 0);
  // Directly to code: the selector's own rules.
  target.offset = (uint32_t)(uint64_t)landing;
  target.selector = kTarget;
  expect("far call: code", &frame, kDone, 0);
  CHECK_EQUAL("far call: of 32 bits", last_frame.rsp, frame.rsp - 8);
  target.selector = kTarget | 3;
  expect("far call: RPL 3", &frame, kGp, kTarget);
  gdt[kTarget / 8] = descriptor(0xFA, kLong);
  target.selector = kTarget;
  expect("far call: DPL 3", &frame, kGp, kTarget);
  target.selector = 0;
  expect("far call: null", &frame, kGp, 0);
}

/// INT n through gates of every kind.
static void interrupt_gates(void) {
  enum { kIdtError = kVector * 8 + 2 };
  static const struct {
    const char* what;
    bool user;
    uint8_t gate, access, flags;
    int vector;
    uint16_t error;
  } kRows[] = {
      {"INT: interrupt gate", false, 0x8E, kCode, kLong, kDone, 0},
      {"INT: trap gate", false, 0x8F, kCode, kLong, kDone, 0},
      {"INT: from user", true, 0xEE, kCode, kLong, kDone, 0},
      {"INT: conforming from user", true, 0xEE, 0x9E, kLong, kDone, 0},
      {"INT: gate of level 0 from user", true, 0x8E, kCode, kLong, kGp, kIdtError},
      {"INT: absent gate of level 0 from user", true, 0x0E, kCode, kLong, kGp, kIdtError},
      {"INT: absent gate", false, 0x0E, kCode, kLong, kNp, kIdtError},
      {"INT: call gate", false, 0x8C, kCode, kLong, kGp, kIdtError},
      {"INT: task gate", false, 0x85, kCode, kLong, kGp, kIdtError},
      {"INT: gate of 16 bits", false, 0x86, kCode, kLong, kGp, kIdtError},
      {"INT: absent code", false, 0x8E, 0x1A, kLong, kNp, kTarget},
      {"INT: 32-bit code", false, 0x8E, kCode, kWide, kGp, kTarget},
      {"INT: data", false, 0x8E, 0x92, kWide, kGp, kTarget},
      {"INT: outwards", false, 0x8E, 0xFA, kLong, kGp, kTarget},
  };
  const struct Gate saved = idt[kVector];
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    // TCG looks at the type behind the privilege, and says that an absent gate is #NP of a selector outside the IDT.
    if (under_tcg() && (kRows[i].error == kIdtError || kRows[i].flags == kWide)) continue;
    const bool stays_user = kRows[i].user && kRows[i].access == 0x9E;
    put_gate(&idt[kVector].low, kRows[i].gate, kTarget, (uint64_t)vector_60 + (stays_user ? kUserAlias : 0));
    gdt[kTarget / 8] = descriptor(kRows[i].access, kRows[i].flags);
    struct Frame frame = kRows[i].user ? user_frame(do_int) : supervisor_frame(do_int);
    frame.rflags = 0x4202;  // NT, IF
    frame.rsp -= 8;
    const uint64_t rsp = frame.rsp;
    expect(kRows[i].what, &frame, kRows[i].vector, kRows[i].error);
    if (kRows[i].vector != kDone) continue;
    CHECK_EQUAL("INT: CS", last_frame.cs, kTarget | (stays_user ? 3 : 0));
    CHECK_EQUAL("INT: NT and IF", last_frame.rflags & 0x4200, kRows[i].gate == 0x8F ? 0x200 : 0);
    const uint64_t* stack = (const uint64_t*)last_frame.rsp;
    const uint64_t from = kRows[i].user && !stays_user ? *(uint64_t*)(tss + 4) : rsp;
    CHECK_EQUAL("INT: stack", last_frame.rsp, (from & ~15ULL) - 40);
    CHECK_EQUAL("INT: saved RIP", stack[0], frame.rip + 2);
    CHECK_EQUAL("INT: saved CS", stack[1], frame.cs);
    CHECK_EQUAL("INT: saved flags", stack[2] & 0x4200, 0x4200);
    CHECK_EQUAL("INT: saved RSP", stack[3], rsp);
    CHECK_EQUAL("INT: saved SS", stack[4], frame.ss);
    if (kRows[i].user && !stays_user) CHECK_EQUAL("INT: SS is null", last_frame.ss, 0);
  }
  // IST, with and without a change of level.
  gdt[kTarget / 8] = descriptor(kCode, kLong);
  static uint8_t own_stack[512] __attribute__((aligned(16)));
  *(uint64_t*)(tss + 0x24 + 8 * 3) = (uint64_t)(own_stack + sizeof own_stack) - 8;
  put_gate(&idt[kVector].low, 0xEE, kTarget, (uint64_t)vector_60);
  idt[kVector].low |= 4ULL << 32;
  for (int user = 0; user < 2; ++user) {
    struct Frame frame = user ? user_frame(do_int) : supervisor_frame(do_int);
    expect("IST", &frame, kDone, 0);
    CHECK_EQUAL("IST: stack", last_frame.rsp, (uint64_t)(own_stack + sizeof own_stack) - 16 - 40);
    if (!under_tcg()) CHECK_EQUAL("IST: SS", last_frame.ss, user ? 0 : kData);  // TCG's is always null
  }
  // Stacks that are not canonical: #SS, which has an IST.
  if (!under_tcg()) {
    *(uint64_t*)(tss + 0x24 + 8 * 3) = 1ULL << 55;
    struct Frame frame = supervisor_frame(do_int);
    expect("IST: not canonical", &frame, kSs, 0);
    const uint64_t rsp0 = *(uint64_t*)(tss + 4);
    *(uint64_t*)(tss + 4) = 1ULL << 55;
    put_gate(&idt[kVector].low, 0xEE, kTarget, (uint64_t)vector_60);
    frame = user_frame(do_int);
    expect("RSP0: not canonical", &frame, kSs, 0);
    *(uint64_t*)(tss + 4) = rsp0;
  }
  // A vector that the IDT does not reach.
  const struct {
    uint16_t limit;
    uint64_t base;
  } __attribute__((packed)) shorter = {kVector * 16 + 14, (uint64_t)idt}, whole = {4095, (uint64_t)idt};
  struct Frame frame = supervisor_frame(do_int);
  __asm__ volatile("lidt %0" : : "m"(shorter));
  if (!under_tcg()) expect("INT: beyond the IDT", &frame, kGp, kIdtError);
  __asm__ volatile("lidt %0" : : "m"(whole));
  idt[kVector] = saved;
}

void test_gates(void) {
  returns();
  returned_flags();
  call_gates();
  interrupt_gates();
}
