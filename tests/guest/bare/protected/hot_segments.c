// The same code under segments of other bases, limits, types and sizes, again and again: what an engine has concluded
// from flat ones must not outlive them.
#include "protected.h"

enum { kSlot = kFreeSelectors, kDone = 0x80, kGp = 13, kSs = 12, kOften = 60 };

static uint8_t area[3][4096] __attribute__((aligned(4096)));

CODE(h_load, "mov $10, %ecx; 1: mov (%ebx), %al; dec %ecx; jnz 1b; int $0x80");
CODE(h_store, "mov $10, %ecx; 1: mov %al, (%ebx); dec %ecx; jnz 1b; int $0x80");
CODE(h_stos, "mov %ebx, %edi; mov $1, %ecx; rep stosb; int $0x80");
CODE(h_push, "mov $10, %ecx; 1: push %eax; pop %edx; dec %ecx; jnz 1b; push %eax; int $0x80");
CODE(h_by_ebp, "mov %ebx, %ebp; mov $10, %ecx; 1: mov (%ebp), %al; dec %ecx; jnz 1b; int $0x80");
CODE(h_call, "mov $10, %ecx; 1: call 2f; dec %ecx; jnz 1b; int $0x80; 2: ret");
CODE(h_fs, "mov $10, %ecx; 1: mov %fs:(%ebx), %al; dec %ecx; jnz 1b; int $0x80");

enum Which { kDs, kEs, kFs, kStack };

void test_hot_segments(void) {
  static const struct {
    const char* what;
    const uint8_t* code;
    enum Which which;
  } kRows[] = {{"DS, load", h_load, kDs},    {"DS, store", h_store, kDs},   {"ES, STOS", h_stos, kEs},
               {"SS, push", h_push, kStack}, {"SS, EBP", h_by_ebp, kStack}, {"SS, call", h_call, kStack},
               {"FS, load", h_fs, kFs}};
  // Flat; with a base; too short; of 16 bits; expand-down, which leaves it out; read-only.
  static const struct {
    uint32_t page, limit;
    uint8_t access, flags;
    bool fine, writes;
  } kSegments[] = {{0, 0xFFFFF, 0xF2, 0xC, true, true}, {1, 0xFFF, 0xF2, 4, true, true},
                   {0, 0x7F, 0xF2, 4, false, true},     {2, 0xFFF, 0xF2, 0, true, true},
                   {0, 0xFFF, 0xF6, 4, false, true},    {1, 0xFFF, 0xF0, 4, true, false}};
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    const bool stores = kRows[i].code == h_store || kRows[i].code == h_stos;
    for (unsigned round = 0; round < kOften; ++round) {
      const unsigned kind = (round * 5 + round / 6) % 6;
      const bool stack = kRows[i].which == kStack;
      if (stack && !kSegments[kind].writes) continue;
      if (under_tcg() && (!kSegments[kind].fine || !kSegments[kind].writes)) continue;
      const bool flat = kSegments[kind].limit == 0xFFFFF;
      gdt[kSlot / 8] = segment(flat ? 0 : (uint32_t)area[kSegments[kind].page], kSegments[kind].limit,
                               kSegments[kind].access, kSegments[kind].flags);
      for (unsigned page = 0; page < 3; ++page) area[page][0x100] = (uint8_t)(0x10 + page);
      struct Frame frame = user_frame(kRows[i].code);
      frame.ebx = 0x100 + (flat ? (uint32_t)area[0] : 0);
      frame.eax = 0x55;
      if (kRows[i].which == kDs) frame.ds = kSlot | 3;
      if (kRows[i].which == kEs) frame.es = kSlot | 3;
      if (kRows[i].which == kFs) frame.fs = kSlot | 3;
      if (stack) {
        frame.ss = kSlot | 3;
        frame.esp = 0x104 + (flat ? (uint32_t)area[0] : 0);
      }
      const bool allowed = kSegments[kind].fine && (kSegments[kind].writes || !stores);
      const int vector = allowed ? kDone : stack ? kSs : kGp;
      const struct Fault fault = run(&frame);
      check(fault.vector == vector, kRows[i].what, (uint64_t)kind << 32 | (uint8_t)fault.vector, vector);
      if (!allowed) continue;
      const uint8_t here = area[kSegments[kind].page][0x100];
      if (stores || kRows[i].code == h_push) {
        check(here == 0x55, kRows[i].what, (uint64_t)kind << 32 | here, 0x55);
      } else if (kRows[i].code != h_call) {
        check((last_frame.eax & 0xFF) == 0x10 + kSegments[kind].page, kRows[i].what, last_frame.eax, kind);
      }
    }
  }
  // Code at another base is other code, though it lies at the same address.
  CODE(where, "call 1f; 1: pop %eax; int $0x80");
  for (unsigned round = 0; round < kOften; ++round) {
    const uint32_t base = round % 3 * 0x100;
    gdt[kSlot / 8] = segment(base, 0xFFFFF, 0xFA, 0xC);
    struct Frame frame = user_frame(where - base);
    frame.cs = kSlot | 3;
    CHECK_EQUAL("CS: base", run(&frame).vector, kDone);
    CHECK_EQUAL("CS: EIP", last_frame.eax, frame.eip + 5);
  }
  // 32 and 16 bits by turns: mov ax, 1234h; nop; nop is mov eax, 90901234h with the larger size.
  CODE(sizes, ".byte 0xB8, 0x34, 0x12, 0x90, 0x90; int $0x80");
  for (unsigned round = 0; round < kOften; ++round) {
    const bool wide = round % 2;
    gdt[kSlot / 8] = segment((uint32_t)sizes, 0xFFF, 0xFA, wide ? 4 : 0);
    struct Frame frame = user_frame(0);
    frame.cs = kSlot | 3;
    CHECK_EQUAL("CS: size", run(&frame).vector, kDone);
    CHECK_EQUAL("CS: size", last_frame.eax, wide ? 0x90901234 : 0x1234);
  }
}
