// Debug exceptions (SDM vol. 3, 17.2 and 17.3): single steps, breakpoints on instructions, data and ports, DR4 to DR7.
#include "bare.h"

enum { kB0 = 1, kB1 = 2, kB2 = 4, kBd = 1 << 13, kBs = 1 << 14, kTf = 0x100, kRf = 0x10000 };
enum { kExecute = 0, kWrite = 1, kPort = 2, kAccess = 3 };

static struct Trap { uint64_t rip, rflags, rcx, dr6; } traps[16];
static unsigned count;
static bool resumes;  // with RF, and TF off

static uint64_t read_dr6(void) {
  uint64_t v;
  __asm__ volatile("mov %%dr6, %0" : "=r"(v));
  return v;
}
static void clear_dr6(void) {
  __asm__ volatile("mov %0, %%dr6" : : "r"(0xFFFF0FF0ULL));
}
static void write_dr7(uint64_t v) {
  __asm__ volatile("mov %0, %%dr7" : : "r"(v) : "memory");
}

static bool collect(struct Frame* frame) {
  if (frame->vector != 1) return false;
  if (count < 16) traps[count] = (struct Trap){frame->rip, frame->rflags, frame->rcx, read_dr6() & 0xE00F};
  ++count;
  clear_dr6();
  if (resumes) frame->rflags |= kRf;
  return true;
}

/// A breakpoint in DR0 to DR2; lengths are 1, 2, 4 or 8.
static void set(unsigned number, uint64_t address, unsigned kind, unsigned length) {
  static const uint8_t kLengths[9] = {[1] = 0, [2] = 1, [4] = 3, [8] = 2};
  switch (number) {
    case 0:
      __asm__ volatile("mov %0, %%dr0" : : "r"(address));
      break;
    case 1:
      __asm__ volatile("mov %0, %%dr1" : : "r"(address));
      break;
    default:
      __asm__ volatile("mov %0, %%dr2" : : "r"(address));
      break;
  }
  uint64_t dr7;
  __asm__ volatile("mov %%dr7, %0" : "=r"(dr7));
  dr7 &= ~(3ULL << 2 * number | 15ULL << (16 + 4 * number));
  write_dr7(dr7 | 2ULL << 2 * number | ((uint64_t)kind | (uint64_t)kLengths[length] << 2) << (16 + 4 * number));
}

/// Runs to INT 80H, and says how many debug exceptions there were on the way.
static unsigned traps_of(struct Frame* frame, const char* what) {
  count = 0;
  clear_dr6();
  CHECK_EQUAL(what, run(frame).vector, 0x80);
  write_dr7(0x400);
  return count;
}

CODE(nops, "nop; nop; nop; int $0x80");
CODE(clear_tf, "pushfq; andl $~0x100, (%rsp); popfq; nop; nop; int $0x80");
CODE(step_rep, "rep stosb; int $0x80");
CODE(step_int, "int $0x60; nop; int $0x80");
CODE(int_60, "nop; iretq");
CODE(step_iret,
     "mov %rsp, %rax; push $0x10; push %rax; push $0x102; push $8; lea 1f(%rip), %rax; push %rax; iretq\n"
     "1: nop; nop; int $0x80");
CODE(icebp, ".byte 0xF1; nop; int $0x80");
CODE(touch, "mov %eax, (%rdi); mov (%rdi), %eax; mov %al, 3(%rdi); nop; int $0x80");
CODE(store_8, "mov %rax, (%rdi); nop; int $0x80");
CODE(push_one, "push %rax; nop; int $0x80");
CODE(ports, "out %al, $0x80; in $0x80, %al; nop; int $0x80");
CODE(ss_then_nop, "mov (%rdi), %ss; nop; nop; int $0x80");
CODE(ss_then_int, "mov (%rdi), %ss; int $0x60; nop; int $0x80");
CODE(read_dr7_code, "mov %dr7, %rax; int $0x80");
CODE(touch_4, "mov %dr4, %rax; int $0x80");
CODE(touch_5, "mov %dr5, %rax; int $0x80");
CODE(write_high_6, "mov %rax, %dr6; int $0x80");
CODE(write_high_7, "mov %rax, %dr7; int $0x80");

static void single_steps(void) {
  for (int user = 0; user < 2; ++user) {
    struct Frame frame = user ? user_frame(nops) : supervisor_frame(nops);
    frame.rflags |= kTf;
    CHECK_EQUAL("TF: traps", traps_of(&frame, "TF"), 3);
    for (unsigned i = 0; i < 3; ++i) {
      CHECK_EQUAL("TF: RIP", traps[i].rip, frame.rip + i + 1);
      CHECK_EQUAL("TF: DR6", traps[i].dr6, kBs);
      CHECK_EQUAL("TF: saved flags", traps[i].rflags & (kTf | kRf), kTf);
    }
  }
  struct Frame frame = supervisor_frame(clear_tf);
  frame.rflags |= kTf;
  CHECK_EQUAL("TF: POPF that clears it traps", traps_of(&frame, "TF"), 3);

  static uint8_t bytes[8];
  frame = supervisor_frame(step_rep);
  frame.rflags |= kTf;
  frame.rdi = (uint64_t)bytes;
  frame.rcx = 5;
  CHECK_EQUAL("TF: REP, each iteration", traps_of(&frame, "TF: REP"), 5);
  for (unsigned i = 0; i < 5; ++i) {
    CHECK_EQUAL("TF: REP, RCX", traps[i].rcx, 4 - i);
    CHECK_EQUAL("TF: REP, RIP", traps[i].rip, frame.rip + (i == 4 ? 2 : 0));
    if (!under_tcg()) CHECK_EQUAL("TF: REP, RF", traps[i].rflags & kRf, i == 4 ? 0 : kRf);
  }

  const struct Gate saved = idt[0x60];
  idt[0x60].low = ((uint64_t)int_60 & 0xFFFF) | 8ULL << 16 | 0x8EULL << 40 | ((uint64_t)int_60 >> 16) << 48;
  frame = supervisor_frame(step_int);
  frame.rflags |= kTf;
  const unsigned over = traps_of(&frame, "TF: INT n");
  // Steps over the handler; whether IRET, which loads TF, traps at once is not ours to say: the NOP behind it does.
  CHECK_EQUAL("TF: INT n, traps", over, 1);
  CHECK_EQUAL("TF: INT n, RIP", traps[0].rip, frame.rip + 3);
  idt[0x60] = saved;

  frame = supervisor_frame(step_iret);
  CHECK_EQUAL("TF: by IRET", traps_of(&frame, "TF: by IRET"), 2);

  if (under_tcg()) return;  // knows no INT1
  frame = user_frame(icebp);
  CHECK_EQUAL("INT1", traps_of(&frame, "INT1"), 1);
  CHECK_EQUAL("INT1: RIP", traps[0].rip, frame.rip + 1);
  CHECK_EQUAL("INT1: DR6", traps[0].dr6, 0);
}

static void instruction_breakpoints(void) {
  resumes = true;
  for (int user = 0; user < 2; ++user) {
    struct Frame frame = user ? user_frame(nops) : supervisor_frame(nops);
    set(0, frame.rip + 1, kExecute, 1);
    set(1, frame.rip + 2, kExecute, 1);
    CHECK_EQUAL("breakpoint: traps", traps_of(&frame, "breakpoint"), 2);
    CHECK_EQUAL("breakpoint: RIP", traps[0].rip, frame.rip + 1);
    CHECK_EQUAL("breakpoint: DR6", traps[0].dr6, kB0);
    if (!under_tcg()) CHECK_EQUAL("breakpoint: RF", traps[0].rflags & kRf, 0);
    CHECK_EQUAL("breakpoint: second RIP", traps[1].rip, frame.rip + 2);
    CHECK_EQUAL("breakpoint: second DR6", traps[1].dr6, kB1);
    // RF in the frame lets the first instruction pass, and none after it.
    set(0, frame.rip, kExecute, 1);
    set(1, frame.rip + 1, kExecute, 1);
    frame.rflags |= kRf;
    CHECK_EQUAL("breakpoint: RF", traps_of(&frame, "breakpoint: RF"), 1);
    CHECK_EQUAL("breakpoint: RF, RIP", traps[0].rip, frame.rip + 1);
  }
  // A fault pushes RF, so that what is started again does not break once more.
  struct Frame frame = supervisor_frame(nops);
  frame.rip = kWindow + 0x1F0000;
  set(0, frame.rip, kExecute, 1);
  count = 0;
  const struct Fault fault = run(&frame);
  write_dr7(0x400);
  CHECK_EQUAL("breakpoint: before the page fault", count, 1);
  CHECK_EQUAL("breakpoint: then the page fault", fault.vector, 14);
  if (!under_tcg()) CHECK_EQUAL("page fault: RF", fault.rflags & kRf, kRf);
  resumes = false;
}

static void data_breakpoints(void) {
  static uint8_t area[8192] __attribute__((aligned(4096)));
  uint8_t* const data = area + 4096;
  struct Frame frame = supervisor_frame(touch);
  frame.rdi = (uint64_t)data;
  set(0, (uint64_t)data, kWrite, 4);
  CHECK_EQUAL("data: writes", traps_of(&frame, "data"), 2);
  CHECK_EQUAL("data: RIP", traps[0].rip, frame.rip + 2);
  CHECK_EQUAL("data: second RIP", traps[1].rip, frame.rip + 7);
  CHECK_EQUAL("data: DR6", traps[0].dr6, kB0);
  set(1, (uint64_t)data, kAccess, 4);
  CHECK_EQUAL("data: accesses", traps_of(&frame, "data"), 3);
  set(1, (uint64_t)data + 2, kAccess, 4);  // is aligned down
  CHECK_EQUAL("data: aligned", traps_of(&frame, "data"), 3);
  set(1, (uint64_t)data + 3, kAccess, 1);
  CHECK_EQUAL("data: one byte", traps_of(&frame, "data"), 3);
  set(1, (uint64_t)data + 4, kAccess, 4);
  CHECK_EQUAL("data: beside", traps_of(&frame, "data"), 0);
  set(0, (uint64_t)data, kWrite, 1);
  set(1, (uint64_t)data + 3, kWrite, 1);
  CHECK_EQUAL("data: two", traps_of(&frame, "data"), 2);
  if (!under_tcg()) CHECK_EQUAL("data: two at once", traps[0].dr6, kB0 | kB1);
  CHECK_EQUAL("data: and one", traps[1].dr6, kB1);
  set(0, (uint64_t)data, kWrite, 4);
  frame.rflags |= kTf;
  if (!under_tcg()) {
    CHECK_EQUAL("data: and steps", traps_of(&frame, "data"), 4);
    CHECK_EQUAL("data: and steps, DR6", traps[0].dr6, kB0 | kBs);
  }
  frame = user_frame(touch);
  frame.rdi = (uint64_t)data + kUserAlias;
  set(0, frame.rdi, kWrite, 4);
  CHECK_EQUAL("data: of users", traps_of(&frame, "data"), 2);

  frame = supervisor_frame(store_8);
  frame.rdi = (uint64_t)data - 4;  // into the next page
  set(0, (uint64_t)data, kWrite, 1);
  CHECK_EQUAL("data: across pages", traps_of(&frame, "data"), 1);
  set(0, (uint64_t)data - 1, kWrite, 1);
  CHECK_EQUAL("data: across pages, first", traps_of(&frame, "data"), 1);
  frame = supervisor_frame(push_one);
  set(0, frame.rsp - 8, kWrite, 8);
  // The exception's own frame writes there as well, afterwards.
  CHECK_EQUAL("data: PUSH", traps_of(&frame, "data") >= 1, 1);
  CHECK_EQUAL("data: PUSH, RIP", traps[0].rip, frame.rip + 1);
  frame = supervisor_frame(step_rep);
  frame.rdi = (uint64_t)data;
  frame.rcx = 8;
  set(0, (uint64_t)data + 2, kWrite, 1);
  if (!under_tcg()) {
    CHECK_EQUAL("data: REP", traps_of(&frame, "data"), 1);
    CHECK_EQUAL("data: REP, RIP", traps[0].rip, frame.rip);
    CHECK_EQUAL("data: REP, RCX", traps[0].rcx, 5);
    CHECK_EQUAL("data: REP, RF", traps[0].rflags & kRf, kRf);
  }
  write_dr7(0x400);
  set(0, (uint64_t)data, kWrite, 4);
  write_dr7(0x400);
  frame = supervisor_frame(touch);
  frame.rdi = (uint64_t)data;
  CHECK_EQUAL("data: disabled", traps_of(&frame, "data"), 0);
}

/// MOV SS holds its own traps off until the next instruction has been executed, even if that is INT n.
static void behind_mov_ss(void) {
  static uint16_t selector = kData;
  struct Frame frame = supervisor_frame(ss_then_nop);
  frame.rdi = (uint64_t)&selector;
  set(0, frame.rdi, kAccess, 2);
  CHECK_EQUAL("MOV SS: data breakpoint", traps_of(&frame, "MOV SS"), 1);
  if (under_tcg()) return;
  CHECK_EQUAL("MOV SS: one instruction later", traps[0].rip, frame.rip + 3);
  const struct Gate saved = idt[0x60];
  idt[0x60].low = ((uint64_t)int_60 & 0xFFFF) | 8ULL << 16 | 0x8EULL << 40 | ((uint64_t)int_60 >> 16) << 48;
  frame.rip = (uint64_t)ss_then_int;
  set(0, frame.rdi, kAccess, 2);
  CHECK_EQUAL("MOV SS: INT n", traps_of(&frame, "MOV SS: INT n"), 1);
  CHECK_EQUAL("MOV SS: in the handler", traps[0].rip, (uint64_t)int_60);
  idt[0x60] = saved;
}

static void ports_and_registers(void) {
  write_cr4(read_cr4() | 8);  // DE
  struct Frame frame = supervisor_frame(ports);
  set(2, 0x80, kPort, 1);
  CHECK_EQUAL("port: accesses", traps_of(&frame, "port"), 2);
  CHECK_EQUAL("port: RIP", traps[0].rip, frame.rip + 2);
  CHECK_EQUAL("port: DR6", traps[0].dr6, kB2);
  set(2, 0x84, kPort, 4);
  CHECK_EQUAL("port: beside", traps_of(&frame, "port"), 0);
  frame = supervisor_frame(touch_4);
  CHECK_EQUAL("DR4: with DE", run(&frame).vector, 6);
  frame = supervisor_frame(touch_5);
  CHECK_EQUAL("DR5: with DE", run(&frame).vector, 6);
  write_cr4(read_cr4() & ~8ULL);
  CHECK_EQUAL("DR5: without DE", run(&frame).vector, 0x80);
  CHECK_EQUAL("DR5: is DR7", last_frame.rax, 0x400);
  frame = supervisor_frame(touch_4);
  CHECK_EQUAL("DR4: without DE", run(&frame).vector, 0x80);
  CHECK_EQUAL("DR4: is DR6", last_frame.rax, 0xFFFF0FF0);

  __asm__ volatile("mov %0, %%dr6" : : "r"(0ULL));
  CHECK_EQUAL("DR6: ones", read_dr6(), 0xFFFF0FF0);
  frame = supervisor_frame(write_high_6);
  frame.rax = 1ULL << 32;
  CHECK_EQUAL("DR6: upper half", run(&frame).vector, 13);
  frame = supervisor_frame(write_high_7);
  frame.rax = 1ULL << 32;
  CHECK_EQUAL("DR7: upper half", run(&frame).vector, 13);
  frame = user_frame(read_dr7_code);
  CHECK_EQUAL("DR7: users", run(&frame).vector, 13);

  if (under_tcg()) return;  // ignores GD
  frame = supervisor_frame(read_dr7_code);
  write_dr7(0x2400);
  count = 0;
  CHECK_EQUAL("GD", run(&frame).vector, 0x80);
  CHECK_EQUAL("GD: one fault", count, 1);
  CHECK_EQUAL("GD: RIP", traps[0].rip, frame.rip);
  CHECK_EQUAL("GD: DR6", traps[0].dr6, kBd);
  CHECK_EQUAL("GD: cleared for the handler", last_frame.rax, 0x400);
  CHECK_EQUAL("GD: RF", traps[0].rflags & kRf, kRf);
  // BD stays until somebody clears it, and is no business of the next breakpoint's.
  __asm__ volatile("mov %0, %%dr6" : : "r"(0xFFFF0FF0ULL | kBd));
  resumes = true;
  count = 0;
  frame = supervisor_frame(nops);
  set(0, frame.rip, kExecute, 1);
  CHECK_EQUAL("BD: breakpoint", run(&frame).vector, 0x80);
  CHECK_EQUAL("BD: breakpoint, DR6", traps[0].dr6, kBd | kB0);
  CHECK_EQUAL("BD: breakpoint, RF", traps[0].rflags & kRf, 0);
  resumes = false;
  write_dr7(0x400);
}

void test_debug(void) {
  on_event = collect;
  single_steps();
  instruction_breakpoints();
  data_breakpoints();
  behind_mov_ss();
  ports_and_registers();
  write_dr7(0x400);
}
