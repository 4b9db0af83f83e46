// Limits, types and sizes of segments (SDM vol. 3, 5.3, 5.5; vol. 1, 3.6).
#include "protected.h"

enum { kSlot = kFreeSelectors, kSlotIndex = kSlot / 8, kDone = 0x80, kGp = 13, kSs = 12 };
enum { kBytes = 4, kPages = 0xC };  // flags: D alone, and with G

static uint8_t area[65536] __attribute__((aligned(4096)));

CODE(read_1, "mov %fs:(%ebx), %al; int $0x80");
CODE(read_2, "mov %fs:(%ebx), %ax; int $0x80");
CODE(read_4, "mov %fs:(%ebx), %eax; int $0x80");
CODE(read_8, "movq %fs:(%ebx), %mm0; int $0x80");
CODE(read_16, "movups %fs:(%ebx), %xmm0; int $0x80");
CODE(write_1, "mov %al, %fs:(%ebx); int $0x80");
CODE(write_4, "mov %eax, %fs:(%ebx); int $0x80");
CODE(add_4, "add %eax, %fs:(%ebx); int $0x80");
CODE(read_tbyte, "fldt %fs:(%ebx); fstp %st(0); int $0x80");
CODE(fnsave_108, "fnsave %fs:(%ebx); int $0x80");

static void limits(void) {
  static const struct {
    const char* what;
    const uint8_t* code;
    uint8_t access, flags;
    uint32_t limit, offset;
    bool fine;
  } kRows[] = {
      {"limit: last byte", read_1, 0x92, kBytes, 0x1F, 0x1F, true},
      {"limit: one more", read_1, 0x92, kBytes, 0x1F, 0x20, false},
      {"limit: last four", read_4, 0x92, kBytes, 0x1F, 0x1C, true},
      {"limit: three of four", read_4, 0x92, kBytes, 0x1F, 0x1D, false},
      {"limit: one of two", read_2, 0x92, kBytes, 0x1F, 0x1F, false},
      {"limit: last eight", read_8, 0x92, kBytes, 0x1F, 0x18, true},
      {"limit: seven of eight", read_8, 0x92, kBytes, 0x1F, 0x19, false},
      {"limit: last sixteen", read_16, 0x92, kBytes, 0x1F, 0x10, true},
      {"limit: fifteen of sixteen", read_16, 0x92, kBytes, 0x1F, 0x11, false},
      {"limit: last ten", read_tbyte, 0x92, kBytes, 0x1F, 0x16, true},
      {"limit: nine of ten", read_tbyte, 0x92, kBytes, 0x1F, 0x17, false},
      {"limit: image", fnsave_108, 0x92, kBytes, 107, 0, true},
      {"limit: image, too long", fnsave_108, 0x92, kBytes, 107, 1, false},
      {"limit: write", write_4, 0x92, kBytes, 0x1F, 0x1C, true},
      {"limit: write, too far", write_4, 0x92, kBytes, 0x1F, 0x1D, false},
      {"limit: far", read_1, 0x92, kBytes, 0x1F, 0xFFFFFFFF, false},
      {"limit: around the end", read_4, 0x92, kPages, 0xFFFFF, 0xFFFFFFFE, false},
      {"limit: 0", read_1, 0x92, kBytes, 0, 0, true},
      {"limit: 0 of pages", read_4, 0x92, kPages, 0, 4092, true},
      {"limit: 0 of pages, behind", read_4, 0x92, kPages, 0, 4093, false},
      {"down: at the limit", read_1, 0x96, kBytes, 0xFFF, 0xFFF, false},
      {"down: behind the limit", read_1, 0x96, kBytes, 0xFFF, 0x1000, true},
      {"down: over the limit", read_4, 0x96, kBytes, 0xFFF, 0xFFE, false},
      {"down: 16 bits, the end", read_4, 0x96, 0, 0xFFF, 0xFFFC, true},
      {"down: 16 bits, over the end", read_4, 0x96, 0, 0xFFF, 0xFFFD, false},
      {"down: 16 bits, behind the end", read_1, 0x96, 0, 0xFFF, 0x10000, false},
      {"down: pages", read_1, 0x96, kPages, 0, 0x1000, true},
      {"down: pages, below", read_1, 0x96, kPages, 0, 0xFFF, false},
      {"down: write", write_1, 0x96, kBytes, 0xFFF, 0x1000, true},
      {"type: write to read-only", write_4, 0x90, kPages, 0xFFFFF, 0, false},
      {"type: change of read-only", add_4, 0x90, kPages, 0xFFFFF, 0, false},
      {"type: read of read-only", read_4, 0x90, kPages, 0xFFFFF, 0, true},
      {"type: write to code", write_4, 0x9A, kPages, 0xFFFFF, 0, false},
      {"type: read of code", read_4, 0x9A, kPages, 0xFFFFF, 0, true},
  };
  for (unsigned user = 0; user < 2; ++user) {
    for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
      // TCG checks no limits and no types of data segments at all.
      if (under_tcg() && !kRows[i].fine) continue;
      gdt[kSlotIndex] = segment((uint32_t)area, kRows[i].limit, kRows[i].access | (user ? 0x60 : 0), kRows[i].flags);
      struct Frame frame = user ? user_frame(kRows[i].code) : supervisor_frame(kRows[i].code);
      frame.fs = kSlot | (user ? 3 : 0);
      frame.ebx = kRows[i].offset;
      expect(kRows[i].what, &frame, kRows[i].fine ? kDone : kGp, 0);
      if (!kRows[i].fine) CHECK_EQUAL("limit: EIP", last_frame.eip, frame.eip);
    }
  }
  struct Frame frame = user_frame(read_1);
  frame.ebx = (uint32_t)area;
  if (!under_tcg()) expect("null segment", &frame, kGp, 0);
  // Bases add up modulo 2^32.
  gdt[kSlotIndex] = segment(0xFFFFF000, 0xFFFFF, 0xF2, kPages);
  frame.fs = kSlot | 3;
  frame.ebx = (uint32_t)area + 0x1000 + 5;
  area[5] = 0x77;
  expect("base: wraps", &frame, kDone, 0);
  CHECK_EQUAL("base: wraps", last_frame.eax & 0xFF, 0x77);
}

CODE(push_4, "push %eax; int $0x80");
CODE(push_2, "pushw %ax; int $0x80");
CODE(pop_4, "pop %eax; int $0x80");
CODE(call_near, "call 1f; 1: int $0x80");
CODE(push_all, "pushal; int $0x80");
CODE(enter_leave, "enter $8, $0; leave; int $0x80");
CODE(read_by_ebp, "mov (%ebp), %eax; int $0x80");
CODE(read_by_esp, "mov 4(%esp), %eax; int $0x80");

/// Stacks of users: limits are #SS, sizes are those of the segment.
static void stacks(void) {
  static const struct {
    const char* what;
    const uint8_t* code;
    uint8_t access, flags;
    uint32_t limit, esp;
    int vector;
    uint32_t esp_after;
  } kRows[] = {
      {"stack: push", push_4, 0xF2, kBytes, 0xFFF, 0x1000, kDone, 0xFFC},
      {"stack: push beyond", push_4, 0xF2, kBytes, 0xFFF, 0x1001, kSs, 0x1001},
      {"stack: push at 0", push_4, 0xF2, kBytes, 0xFFF, 0, kSs, 0},
      {"stack: pop beyond", pop_4, 0xF2, kBytes, 0xFFF, 0xFFD, kSs, 0xFFD},
      {"stack: call at 2", call_near, 0xF2, kBytes, 0xFFF, 2, kSs, 2},
      {"stack: all", push_all, 0xF2, kBytes, 0xFFF, 32, kDone, 0},
      {"stack: all, one short", push_all, 0xF2, kBytes, 0xFFF, 31, kSs, 31},
      {"stack: enter", enter_leave, 0xF2, kBytes, 0xFFF, 3, kSs, 3},
      {"stack: down", push_4, 0xF6, kBytes, 0xFFF, 0x1004, kDone, 0x1000},
      {"stack: down, too far", push_4, 0xF6, kBytes, 0xFFF, 0x1003, kSs, 0x1003},
      {"stack: 16 bits", push_4, 0xF2, 0, 0xFFFF, 0xABCD0100, kDone, 0xABCD00FC},
      {"stack: 16 bits wrap", push_2, 0xF2, 0, 0xFFFF, 0xABCD0000, kDone, 0xABCDFFFE},
      {"stack: 16 bits, limit", push_4, 0xF2, 0, 0xFF, 0xABCD0102, kSs, 0xABCD0102},
      {"stack: 16 bits, pop", pop_4, 0xF2, 0, 0xFFFF, 0xABCDFFFC, kDone, 0xABCD0000},
      {"stack: 16 bits, enter", enter_leave, 0xF2, 0, 0xFFFF, 0xABCD0100, kDone, 0xABCD0100},
      {"stack: by EBP beyond", read_by_ebp, 0xF2, kBytes, 0xFFF, 0x1000, kSs, 0x1000},
      {"stack: by ESP beyond", read_by_esp, 0xF2, kBytes, 0xFFF, 0x1000, kSs, 0x1000},
  };
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    if (under_tcg() && kRows[i].vector == kSs) continue;
    gdt[kSlotIndex] = segment((uint32_t)area, kRows[i].limit, kRows[i].access, kRows[i].flags);
    struct Frame frame = user_frame(kRows[i].code);
    frame.ss = kSlot | 3;
    frame.esp = kRows[i].esp;
    frame.ebp = 0x2000;
    expect(kRows[i].what, &frame, kRows[i].vector, 0);
    // An IRET to a 16-bit stack leaves the upper half of ESP as processors like.
    const uint32_t mask = kRows[i].flags == 0 ? 0xFFFF : ~0U;
    CHECK_EQUAL(kRows[i].what, last_frame.esp & mask, kRows[i].esp_after & mask);
  }
}

CODE(read_cs, "mov %cs:(%ebx), %al; int $0x80");
CODE(run_16, ".byte 0xB8, 0x34, 0x12; .byte 0x66, 0xB8, 0x78, 0x56, 0x34, 0x12; int $0x80");
CODE(at_limit, "nop; nop; nop; nop");
CODE(jump_beyond, ".byte 0xEB, 0x20");

static void code_segments(void) {
  gdt[kSlotIndex] = segment(0, 0xFFFFF, 0xF8, kPages);
  struct Frame frame = user_frame(read_cs);
  frame.cs = kSlot | 3;
  frame.ebx = (uint32_t)area;
  if (!under_tcg()) expect("code: that only executes", &frame, kGp, 0);
  gdt[kSlotIndex] = segment(0, 0xFFFFF, 0xFA, kPages);
  expect("code: readable", &frame, kDone, 0);

  // 16 bits: mov ax, 1234h; mov eax, 12345678h
  gdt[kSlotIndex] = segment((uint32_t)run_16, 0xFF, 0xFA, 0);
  frame = user_frame(0);
  frame.cs = kSlot | 3;
  expect("code: 16 bits", &frame, kDone, 0);
  CHECK_EQUAL("code: 16 bits", last_frame.eax, 0x12345678);
  CHECK_EQUAL("code: 16 bits, IP", last_frame.eip, 11);

  // Running over the limit, and jumping over it.
  gdt[kSlotIndex] = segment((uint32_t)at_limit, 2, 0xFA, kBytes);
  if (!under_tcg()) {
    expect("code: over the limit", &frame, kGp, 0);
    CHECK_EQUAL("code: over the limit, EIP", last_frame.eip, 3);
    gdt[kSlotIndex] = segment((uint32_t)jump_beyond, 0x10, 0xFA, kBytes);
    expect("code: jump beyond", &frame, kGp, 0);
    CHECK_EQUAL("code: jump beyond, EIP", last_frame.eip, 0);
    // The last byte of an instruction beyond the limit.
    gdt[kSlotIndex] = segment((uint32_t)run_16, 7, 0xFA, 0);
    expect("code: an instruction over the limit", &frame, kGp, 0);
    CHECK_EQUAL("code: an instruction over the limit, EIP", last_frame.eip, 3);
  }
}

CODE(rep_stos, "rep stosl; int $0x80");
CODE(rep_movs, "rep movsb %fs:(%esi), %es:(%edi); int $0x80");

/// Strings stop where the limit is, with what they have done.
static void strings(void) {
  if (under_tcg()) return;
  gdt[kSlotIndex] = segment((uint32_t)area, 0x1F, 0xF2, kBytes);
  struct Frame frame = user_frame(rep_stos);
  frame.es = kSlot | 3;
  frame.edi = 0x10;
  frame.ecx = 10;
  frame.eax = 0x12345678;
  area[0x20] = 9;
  expect("strings: limit of ES", &frame, kGp, 0);
  CHECK_EQUAL("strings: ECX", last_frame.ecx, 6);
  CHECK_EQUAL("strings: EDI", last_frame.edi, 0x20);
  CHECK_EQUAL("strings: nothing behind", area[0x20], 9);
  CHECK_EQUAL("strings: all before", area[0x1F], 0x12);
  frame = user_frame(rep_movs);
  frame.fs = kSlot | 3;
  frame.esi = 0x18;
  frame.edi = (uint32_t)area + 0x100;
  frame.ecx = 20;
  expect("strings: limit of the source", &frame, kGp, 0);
  CHECK_EQUAL("strings: source, ECX", last_frame.ecx, 12);
  CHECK_EQUAL("strings: source, ESI", last_frame.esi, 0x20);
}

CODE(load_pointer, "lds (%ebx), %eax; int $0x80");
CODE(load_pointer_ss, "lss (%ebx), %eax; int $0x80");
CODE(bounds, "bound %eax, (%ebx); int $0x80");
CODE(overflow, "mov $0x7FFFFFFF, %eax; inc %eax; into; int $0x80");
CODE(no_overflow, "xor %eax, %eax; into; int $0x80");
CODE(adjust, "aam $0");
CODE(pop_segment, "push %eax; pop %es; int $0x80");

static void old_instructions(void) {
  struct Frame frame = user_frame(load_pointer);
  struct {
    uint32_t offset;
    uint16_t selector;
  } __attribute__((packed)) pointer = {0x1234, kUserData};
  frame.ebx = (uint32_t)&pointer;
  expect("LDS", &frame, kDone, 0);
  CHECK_EQUAL("LDS: offset", last_frame.eax, 0x1234);
  CHECK_EQUAL("LDS: selector", last_frame.ds & 0xFFFF, kUserData);
  pointer.selector = kData;
  expect("LDS: of level 0", &frame, kGp, kData);
  CHECK_EQUAL("LDS: of level 0, register", last_frame.eax, 0);
  frame = user_frame(load_pointer_ss);
  frame.ebx = (uint32_t)&pointer;
  pointer.selector = 3;
  expect("LSS: null", &frame, kGp, 0);
  frame = user_frame(bounds);
  int32_t range[2] = {-5, 5};
  frame.ebx = (uint32_t)range;
  frame.eax = 5;
  expect("BOUND: inside", &frame, kDone, 0);
  frame.eax = 6;
  expect("BOUND: above", &frame, 5, 0);
  CHECK_EQUAL("BOUND: EIP", last_frame.eip, frame.eip);
  frame.eax = (uint32_t)-6;
  expect("BOUND: below", &frame, 5, 0);
  frame = user_frame(overflow);
  expect("INTO", &frame, 4, 0);
  CHECK_EQUAL("INTO: EIP", last_frame.eip, frame.eip + 7);
  frame = user_frame(no_overflow);
  expect("INTO: without", &frame, kDone, 0);
  frame = user_frame(adjust);
  expect("AAM 0", &frame, 0, 0);
  frame = user_frame(pop_segment);
  frame.eax = 0x1000;
  const uint32_t esp = frame.esp;
  expect("POP ES: beyond the GDT", &frame, kGp, 0x1000);
  CHECK_EQUAL("POP ES: ESP", last_frame.esp, esp - 4);
}

void test_segments(void) {
  limits();
  stacks();
  code_segments();
  strings();
  old_instructions();
}
