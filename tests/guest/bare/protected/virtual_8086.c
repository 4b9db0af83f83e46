// Virtual-8086 mode without extensions (SDM vol. 3, ch. 20): what traps by IOPL, what its segments are, its frames.
#include "protected.h"

enum { kVm = 0x20000, kIf = 0x200, kGp = 13, kUd = 6, kDone = 0x100 };
enum { kSegment = 0x500 };

/// Code ends with HLT, which traps in any case: kDone is #GP right there.
static void copy(const uint8_t* code, unsigned size) {
  for (unsigned i = 0; i < size; ++i) ((volatile uint8_t*)(kSegment * 16))[i] = code[i];
}

static struct Frame v86_frame(unsigned iopl) {
  struct Frame frame = {.ds = 0, .es = 0, .cs = kSegment, .eip = 0, .eflags = 2 | kVm | iopl << 12};
  frame.ss = 0x600;
  frame.esp = 0x800;
  frame.v86_ds = 0x700;
  frame.v86_es = 0x710;
  frame.v86_fs = 0x720;
  frame.v86_gs = 0x730;
  return frame;
}

static void instructions(void) {
  static const struct {
    const char* what;
    uint8_t code[12], size;
    int low, high;  // with IOPL 0 and 3
  } kRows[] = {
      {"V86: NOP", {0x90}, 1, kDone, kDone},
      {"V86: CLI", {0xFA}, 1, kGp, kDone},
      {"V86: STI", {0xFB}, 1, kGp, kDone},
      {"V86: PUSHF", {0x9C}, 1, kGp, kDone},
      {"V86: POPF", {0x9D}, 1, kGp, kDone},
      {"V86: INT 80H", {0xCD, 0x80}, 2, kGp, 0x80},
      {"V86: INT3", {0xCC}, 1, 3, 3},
      {"V86: IN", {0xE4, 0x80}, 2, kGp, kGp},
      {"V86: LGDT", {0x0F, 0x01, 0x16, 0, 0}, 5, kGp, kGp},
      {"V86: MOV from CR0", {0x0F, 0x20, 0xC0}, 3, kGp, kGp},
      {"V86: LMSW", {0x0F, 0x01, 0xF0}, 3, kGp, kGp},
      {"V86: CLTS", {0x0F, 0x06}, 2, kGp, kGp},
      {"V86: LAR", {0x0F, 0x02, 0xC0}, 3, kUd, kUd},
      {"V86: ARPL", {0x63, 0xC0}, 2, kUd, kUd},
      {"V86: SLDT", {0x0F, 0x00, 0xC0}, 3, kUd, kUd},
      {"V86: VERR", {0x0F, 0x00, 0xE0}, 3, kUd, kUd},
      {"V86: 32-bit operand", {0x66, 0xB8, 1, 2, 3, 4}, 6, kDone, kDone},
      {"V86: beyond 64 KiB", {0x67, 0x8A, 0x05, 0, 0, 1, 0}, 7, kGp, kGp},
      {"V86: two bytes at FFFFH", {0xA1, 0xFF, 0xFF}, 3, kGp, kGp},
      {"V86: on the stack at FFFFH", {0xBD, 0xFF, 0xFF, 0x8B, 0x46, 0}, 6, 0x200 | 12, 0x200 | 12},
      {"V86: UD2", {0x0F, 0x0B}, 2, kUd, kUd},
      {"V86: divide by 0", {0xD4, 0x00}, 2, 0, 0},
      {"V86: RDMSR", {0x0F, 0x32}, 2, kGp, kGp},
      {"V86: far jump", {0xEA, 5, 0, kSegment & 0xFF, kSegment >> 8}, 5, kDone, kDone},
  };
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    for (unsigned iopl = 0; iopl < 4; iopl += 3) {
      uint8_t code[16];
      for (unsigned at = 0; at < kRows[i].size; ++at) code[at] = kRows[i].code[at];
      code[kRows[i].size] = 0xF4;
      copy(code, kRows[i].size + 1U);
      struct Frame frame = v86_frame(iopl);
      const struct Fault fault = run(&frame);
      int vector = iopl ? kRows[i].high : kRows[i].low;
      const bool segment_fault = i >= 17 && i <= 19;
      if (under_tcg() && segment_fault) continue;  // TCG knows no limits
      if (under_tcg() && vector == kUd) continue;
      const bool done = vector == kDone;
      if (done) vector = kGp;
      vector &= 0xFF;
      check(fault.vector == vector, kRows[i].what, (uint64_t)fault.vector, vector);
      if (done) CHECK_EQUAL(kRows[i].what, fault.eip, kRows[i].size);
      if (vector == kGp) CHECK_EQUAL(kRows[i].what, fault.error_code, 0);
      if (!done && vector == kGp) CHECK_EQUAL(kRows[i].what, fault.eip, 0);
      // The frame of level 0 has it all.
      CHECK_EQUAL("V86: saved VM", last_frame.eflags & kVm, kVm);
      CHECK_EQUAL("V86: saved IOPL", last_frame.eflags >> 12 & 3, iopl);
      CHECK_EQUAL("V86: saved CS", last_frame.cs & 0xFFFF, kSegment);
      CHECK_EQUAL("V86: saved SS", last_frame.ss & 0xFFFF, 0x600);
      CHECK_EQUAL("V86: saved DS", last_frame.v86_ds & 0xFFFF, 0x700);
      CHECK_EQUAL("V86: saved ES", last_frame.v86_es & 0xFFFF, 0x710);
      CHECK_EQUAL("V86: saved FS", last_frame.v86_fs & 0xFFFF, 0x720);
      CHECK_EQUAL("V86: saved GS", last_frame.v86_gs & 0xFFFF, 0x730);
      // Level 0 began with null segments.
      CHECK_EQUAL("V86: DS of level 0", last_frame.ds & 0xFFFF, 0);
      CHECK_EQUAL("V86: GS of level 0", last_frame.gs & 0xFFFF, 0);
    }
  }
}

/// Segments are those of real mode: mov ax, 123h; mov ds, ax; mov al, [5]; push ax; mov es, ax ...
static void segments(void) {
  static const uint8_t kCode[] = {0xB8, 0x23, 0x07, 0x8E, 0xD8, 0xA0, 0x05, 0x00, 0x50, 0x0E, 0x07, 0xF4};
  copy(kCode, sizeof kCode);
  *(volatile uint8_t*)(0x7230 + 5) = 0x5A;
  struct Frame frame = v86_frame(0);
  const struct Fault fault = run(&frame);
  CHECK_EQUAL("V86: segments", fault.vector, kGp);
  CHECK_EQUAL("V86: segments, IP", fault.eip, sizeof kCode - 1);
  CHECK_EQUAL("V86: loaded", last_frame.eax & 0xFF, 0x5A);
  CHECK_EQUAL("V86: DS", last_frame.v86_ds & 0xFFFF, 0x723);
  CHECK_EQUAL("V86: ES by PUSH CS; POP ES", last_frame.v86_es & 0xFFFF, kSegment);
  CHECK_EQUAL("V86: SP", last_frame.esp & 0xFFFF, 0x7FE);
  CHECK_EQUAL("V86: on the stack", *(volatile uint16_t*)(0x6000 + 0x7FE), 0x075A);
}

/// POPF and IRET with IOPL 3 change IF, not IOPL and VM: mov ax, 7202h & ...; push ax; popf
static void flags(void) {
  static const uint8_t kCode[] = {0xB8, 0x02, 0x42, 0x50, 0x9D, 0x9C, 0x58, 0xF4};
  copy(kCode, sizeof kCode);
  struct Frame frame = v86_frame(3);
  CHECK_EQUAL("V86: POPF", run(&frame).vector, kGp);
  CHECK_EQUAL("V86: POPF, IP", last_frame.eip, sizeof kCode - 1);
  CHECK_EQUAL("V86: PUSHF", last_frame.eax & 0xF202, 0x7202);
  CHECK_EQUAL("V86: POPF, flags", last_frame.eflags & (kVm | kIf | 0x7000), kVm | kIf | 0x7000);
  // iret within the mode: pushf; push cs; push offset; iret
  static const uint8_t kReturn[] = {0x9C, 0x0E, 0x68, 0x06, 0x00, 0xCF, 0x40, 0xF4};
  copy(kReturn, sizeof kReturn);
  CHECK_EQUAL("V86: IRET", run(&frame).vector, kGp);
  CHECK_EQUAL("V86: IRET, IP", last_frame.eip, sizeof kReturn - 1);
  CHECK_EQUAL("V86: IRET, SP", last_frame.esp & 0xFFFF, 0x800);
  CHECK_EQUAL("V86: IRET, still there", last_frame.eflags & kVm, kVm);
}

/// Ports go by the map alone.
static void ports(void) {
  static struct {
    struct Tss tss;
    uint8_t map[32], end;
  } __attribute__((packed, aligned(16))) wide;
  wide.tss = tss;
  wide.tss.map = sizeof wide.tss;
  wide.end = 0xFF;
  wide.map[0x84 / 8] = 1 << (0x84 % 8);
  gdt[kFreeSelectors / 8] = segment((uint32_t)&wide, sizeof wide - 1, 0x89, 0);
  __asm__ volatile("ltr %0" : : "r"((uint16_t)kFreeSelectors));
  for (unsigned iopl = 0; iopl < 4; iopl += 3) {
    static const uint8_t kCode[] = {0xE4, 0x80, 0xE4, 0x84, 0xF4};
    copy(kCode, sizeof kCode);
    struct Frame frame = v86_frame(iopl);
    CHECK_EQUAL("V86: ports", run(&frame).vector, kGp);
    CHECK_EQUAL("V86: one port and not the other", last_frame.eip, 2);
  }
  gdt[kTss / 8] &= ~(2ULL << 40);
  __asm__ volatile("ltr %0" : : "r"((uint16_t)kTss));
}

void test_virtual_8086(void) {
  instructions();
  segments();
  flags();
  ports();
}
