// NMIs and their blocking, and where exactly interrupts come in (SDM vol. 3, 6.7 and 6.8).
#include "bare.h"

enum { kVector = 0x52, kIcrLow = 0x300, kIcrHigh = 0x310, kEoi = 0xB0 };

static volatile unsigned nmis, depth, deepest, nested;
static volatile uint64_t interrupted_at, interrupted_flags, interrupted_rcx;
static volatile unsigned interrupts;
static bool faulting_iret;

static void send_nmi(void) {
  *apic(kIcrHigh) = *apic(0x20);
  *apic(kIcrLow) = 0x4400;
}

static void bad_iret(void* a) {
  (void)a;
  __asm__ volatile("pushq $0x10; pushq %rsp; pushq $2; pushq $0x1000; pushq $0; iretq");
}

static bool event(struct Frame* frame) {
  if (frame->vector == 2) {
    ++nmis;
    if (++depth > deepest) deepest = depth;
    if (nested > 0) {
      --nested;
      send_nmi();
      send_nmi();  // one only is remembered
      if (faulting_iret) {
        faulting_iret = false;
        attempt(bad_iret, 0);
        CHECK_EQUAL("NMI: unblocked by an IRET that faults", nmis, 2);
      }
    }
    --depth;
    return true;
  }
  if (frame->vector == kVector) {
    ++interrupts;
    interrupted_at = frame->rip;
    interrupted_flags = frame->rflags;
    interrupted_rcx = frame->rcx;
    *apic(kEoi) = 0;
    return true;
  }
  return false;
}

static void non_maskable(void) {
  nmis = deepest = 0;
  send_nmi();
  __asm__ volatile("nop; nop");
  CHECK_EQUAL("NMI: without IF", nmis, 1);
  nmis = 0;
  nested = 1;
  send_nmi();
  __asm__ volatile("nop; nop");
  CHECK_EQUAL("NMI: another one from its handler, and no third", nmis, 2);
  CHECK_EQUAL("NMI: one after the other", deepest, 1);
  if (under_tcg()) return;
  nmis = 0;
  nested = 1;
  faulting_iret = true;
  send_nmi();
  __asm__ volatile("nop; nop");
}

CODE(after_sti, "sti; nop; nop; cli; int $0x80");
CODE(after_popf, "pushq $0x202; popfq; nop; cli; int $0x80");
CODE(after_sti_hlt, "sti; hlt; nop; cli; int $0x80");
CODE(after_sti_ret, "lea 1f(%rip), %rax; push %rax; sti; ret; nop; 1: nop; cli; int $0x80");
CODE(after_sti_pushf, "sti; pushfq; pop %rbx; cli; int $0x80");
CODE(no_window, "sti; cli; int $0x80");
CODE(after_cr8, "sti; nop; mov %rbx, %cr8; nop; cli; int $0x80");
CODE(after_iret,
     "mov %rsp, %rax; push $0x10; push %rax; push $0x202; push $8; lea 1f(%rip), %rax; push %rax; iretq\n"
     "1: nop; cli; int $0x80");

/// An interrupt waits; where it comes in.
static void windows(void) {
  static const struct {
    const char* what;
    const uint8_t* code;
    uint8_t offset;  // where; 0: not at all
  } kRows[] = {
      {"window: behind STI", after_sti, 2},
      {"window: behind POPF", after_popf, 6},
      {"window: behind HLT", after_sti_hlt, 2},
      {"window: behind STI; RET", after_sti_ret, 11},
      {"window: behind STI; PUSHF", after_sti_pushf, 2},
      {"window: STI; CLI", no_window, 0},
      {"window: behind IRET", after_iret, 23},
  };
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    interrupts = 0;
    *apic(kIcrLow) = 0x40000 | kVector;
    struct Frame frame = supervisor_frame(kRows[i].code);
    CHECK_EQUAL(kRows[i].what, run(&frame).vector, 0x80);
    CHECK_EQUAL(kRows[i].what, interrupts, kRows[i].offset != 0);
    if (kRows[i].offset) CHECK_EQUAL(kRows[i].what, interrupted_at - frame.rip, kRows[i].offset);
    if (kRows[i].code == no_window) __asm__ volatile("sti; nop; cli" : : : "memory");
  }
  // Held back by CR8, let through in the instruction that lowers it.
  __asm__ volatile("mov %0, %%cr8" : : "r"(15ULL));
  interrupts = 0;
  *apic(kIcrLow) = 0x40000 | kVector;
  struct Frame frame = supervisor_frame(after_cr8);
  CHECK_EQUAL("window: CR8", run(&frame).vector, 0x80);
  CHECK_EQUAL("window: CR8", interrupts, 1);
  CHECK_EQUAL("window: behind CR8", interrupted_at - frame.rip, 6);
}

CODE(ss_loop, "1: mov %ebx, %ss; ss_shadow: nop; dec %ecx; jnz 1b; int $0x80");
CODE(sti_loop, "1: cli; sti; sti_shadow: nop; dec %ecx; jnz 1b; int $0x80");
CODE(rep_movs, "rep movsb; int $0x80");

enum { kRepeats = 65535 };
static uint64_t shadow;
static unsigned in_shadow, ticks, partly, resumed;
static uint64_t rep_at;

static bool tick(struct Frame* frame) {
  if (frame->vector != kVector) return false;
  ++ticks;
  if (frame->rip == shadow) ++in_shadow;
  if (frame->rip == rep_at && frame->rcx != 0 && frame->rcx != kRepeats) {
    ++partly;
    if (frame->rflags & 0x10000) ++resumed;
  }
  *apic(kEoi) = 0;
  return true;
}

/// With a timer that strikes anywhere.
static void struck(void) {
  extern const uint8_t ss_shadow[], sti_shadow[];
  on_event = tick;
  *apic(0x3E0) = 0xB;
  static const struct {
    const char* what;
    const uint8_t *code, *shadow;
  } kRows[] = {{"shadow of MOV SS", ss_loop, ss_shadow}, {"shadow of STI", sti_loop, sti_shadow}};
  for (unsigned i = 0; i < 2; ++i) {
    ticks = in_shadow = 0;
    shadow = (uint64_t)kRows[i].shadow;
    *apic(0x320) = 0x20000 | kVector;
    *apic(0x380) = 20011;
    while (ticks < 60) {
      struct Frame frame = supervisor_frame(kRows[i].code);
      frame.rflags = 0x202;
      frame.rcx = 5000;
      frame.rbx = kData;
      CHECK_EQUAL(kRows[i].what, run(&frame).vector, 0x80);
    }
    *apic(0x320) = 0x10000;
    CHECK_EQUAL(kRows[i].what, in_shadow, 0);
  }
  // REP goes on where it was interrupted, and says so by RF. TCG forgets RF.
  static uint8_t from[kRepeats + 1], to[kRepeats + 1];
  for (unsigned i = 0; i < sizeof from; ++i) from[i] = (uint8_t)(i * 7 + (i >> 8));
  rep_at = (uint64_t)rep_movs;
  partly = resumed = 0;
  *apic(0x320) = kVector;
  for (unsigned round = 0; round < 300 && partly < 5; ++round) {
    const unsigned before = partly;
    struct Frame frame = supervisor_frame(rep_movs);
    frame.rflags = 0x202;
    frame.rsi = (uint64_t)from;
    frame.rdi = (uint64_t)to + 1;
    frame.rcx = kRepeats;
    *apic(0x380) = 1000 + 100 * round;
    CHECK_EQUAL("REP, interrupted", run(&frame).vector, 0x80);
    CHECK_EQUAL("REP, interrupted: RCX", last_frame.rcx, 0);
    CHECK_EQUAL("REP, interrupted: RSI", last_frame.rsi, frame.rsi + kRepeats);
    if (partly == before) continue;
    bool same = true;
    for (unsigned i = 0; i < kRepeats; ++i) {
      same = same && to[i + 1] == from[i];
      to[i + 1] = 0;
    }
    CHECK_EQUAL("REP, interrupted: all is there", same, true);
  }
  *apic(0x320) = 0x10000;
  if (!under_tcg()) CHECK_EQUAL("REP, interrupted: RF", resumed, partly);
}

void test_shadows(void) {
  *apic(0xF0) = 0x1FF;
  *apic(0x80) = 0;
  on_event = event;
  non_maskable();
  windows();
  struck();
}
