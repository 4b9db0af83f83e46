// Which selectors may be loaded, and what they tell (SDM vol. 3, 5.2 to 5.6; vol. 2, LAR, LSL, VERR, VERW, LTR, LLDT).
#include "bare.h"

enum { kSlot = kFreeSelectors, kSlotIndex = kSlot / 8 };

CODE(load_ds, "mov %eax, %ds; int $0x80");
CODE(load_ss, "mov %eax, %ss; int $0x80");
CODE(load_fs, "mov %eax, %fs; int $0x80");
CODE(load_tr, "ltr %ax; int $0x80");
CODE(load_ldt, "lldt %ax; int $0x80");
CODE(ask, "lar %ax, %ecx; setz %bl; lsl %ax, %edx; setz %bh; verr %ax; setz %r8b; verw %ax; setz %r9b; int $0x80");

static uint64_t descriptor(uint64_t access, uint64_t flags) {
  return 0x000F00000000FFFF | access << 40 | flags << 52;
}

static void loads(void) {
  enum { kNone = 0x80, kNp = 11, kSs = 12, kGp = 13, kErrorless = 0x100 };
  static const struct {
    const char* what;
    const uint8_t* code;
    bool user;
    uint8_t access, rpl;
    int vector;
  } kRows[] = {
      {"DS: data", load_ds, false, 0x92, 0, kNone},
      {"DS: read-only data", load_ds, false, 0x90, 0, kNone},
      {"DS: data that is absent", load_ds, false, 0x12, 0, kNp},
      {"DS: code that is absent, unreadable", load_ds, false, 0x18, 0, kGp},
      {"DS: code that only executes", load_ds, false, 0x98, 0, kGp},
      {"DS: readable code", load_ds, false, 0x9A, 0, kNone},
      {"DS: RPL 3", load_ds, false, 0x92, 3, kGp},
      {"DS: RPL 3, conforming", load_ds, false, 0x9E, 3, kNone},
      {"DS: a system segment", load_ds, false, 0x89, 0, kGp},
      {"DS: DPL 0 for users", load_ds, true, 0x92, 3, kGp},
      {"DS: DPL 0 for users with RPL 0", load_ds, true, 0x92, 0, kGp},
      {"DS: DPL 3 for users", load_ds, true, 0xF2, 3, kNone},
      {"DS: DPL 3 for users with RPL 0", load_ds, true, 0xF2, 0, kNone},
      {"DS: conforming DPL 0 for users", load_ds, true, 0x9E, 3, kNone},
      {"DS: readable code DPL 0 for users", load_ds, true, 0x9A, 3, kGp},
      {"FS: absent for users", load_fs, true, 0x72, 3, kNp},
      {"SS: data", load_ss, false, 0x92, 0, kNone},
      {"SS: expands down", load_ss, false, 0x96, 0, kNone},
      {"SS: read-only data", load_ss, false, 0x90, 0, kGp},
      {"SS: code", load_ss, false, 0x9A, 0, kGp},
      {"SS: RPL 3", load_ss, false, 0x92, 3, kGp},
      {"SS: DPL 3", load_ss, false, 0xF2, 0, kGp},
      {"SS: absent", load_ss, false, 0x12, 0, kSs},
      {"SS: absent and read-only", load_ss, false, 0x10, 0, kGp},
      {"SS: for users", load_ss, true, 0xF2, 3, kNone},
      {"SS: for users with RPL 0", load_ss, true, 0xF2, 0, kGp},
      {"SS: for users, DPL 0", load_ss, true, 0x92, 3, kGp},
      {"LDT", load_ldt, false, 0x82, 0, kNone},
      {"LDT: absent", load_ldt, false, 0x02, 0, kNp},
      {"LDT: data", load_ldt, false, 0x92, 0, kGp},
      {"LDT: a TSS", load_ldt, false, 0x89, 0, kGp},
      {"LDT: for users", load_ldt, true, 0x82, 0, kGp | kErrorless},
      {"TR", load_tr, false, 0x89, 0, kNone},
      {"TR: busy", load_tr, false, 0x8B, 0, kGp},
      {"TR: absent", load_tr, false, 0x09, 0, kNp},
      {"TR: absent and busy", load_tr, false, 0x0B, 0, kGp},
      {"TR: an LDT", load_tr, false, 0x82, 0, kGp},
      {"TR: data", load_tr, false, 0x92, 0, kGp},
      {"TR: in the LDT", load_tr, false, 0x89, 4, kGp},
      {"TR: for users", load_tr, true, 0x89, 0, kGp | kErrorless},
  };
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    gdt[kSlotIndex] = descriptor(kRows[i].access, 0xC);
    gdt[kSlotIndex + 1] = 0;
    struct Frame frame = kRows[i].user ? user_frame(kRows[i].code) : supervisor_frame(kRows[i].code);
    frame.rax = kSlot | kRows[i].rpl;
    const struct Fault fault = run(&frame);
    const bool errorless = (kRows[i].vector & kErrorless) != 0 || kRows[i].vector == kNone;
    CHECK_EQUAL(kRows[i].what, fault.vector, kRows[i].vector & 0xFF);
    CHECK_EQUAL(kRows[i].what, fault.error_code, errorless ? 0 : (frame.rax & ~3ULL));
    if (kRows[i].vector != kNone) continue;
    if (kRows[i].access & 0x10) CHECK_EQUAL("selectors: accessed", gdt[kSlotIndex] >> 40 & 1, 1);
    if (kRows[i].code == load_tr) {
      CHECK_EQUAL("TR: marked busy", gdt[kSlotIndex] >> 40 & 0xFF, 0x8B);
      gdt[kTss / 8] &= ~(2ULL << 40);
      __asm__ volatile("ltr %0" : : "r"((uint16_t)kTss));
    }
  }
  __asm__ volatile("lldt %0; mov %1, %%fs" : : "r"((uint16_t)0), "r"(0));
}

static void null_selectors(void) {
  static const struct {
    const char* what;
    const uint8_t* code;
    bool user;
    uint16_t selector;
    int vector;
  } kRows[] = {
      {"null DS", load_ds, false, 0, 0x80},
      {"null DS with RPL 3", load_ds, true, 3, 0x80},
      {"null SS", load_ss, false, 0, 0x80},
      {"null SS with a wrong RPL", load_ss, false, 3, 13},
      {"null SS for users", load_ss, true, 3, 13},
      {"null LDT", load_ldt, false, 0, 0x80},
      {"null LDT with RPL 2", load_ldt, false, 2, 0x80},
      {"null TR", load_tr, false, 0, 13},
  };
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    // TCG loads a null TR, and a null SS whatever its RPL.
    if (under_tcg() && (kRows[i].code == load_tr || (kRows[i].selector == 3 && !kRows[i].user))) continue;
    struct Frame frame = kRows[i].user ? user_frame(kRows[i].code) : supervisor_frame(kRows[i].code);
    frame.rax = kRows[i].selector;
    const struct Fault fault = run(&frame);
    CHECK_EQUAL(kRows[i].what, fault.vector, kRows[i].vector);
    CHECK_EQUAL(kRows[i].what, fault.error_code, 0);
  }
}

/// The upper half of 16-byte descriptors must have type 0.
static void upper_halves(void) {
  gdt[kSlotIndex] = descriptor(0x89, 0);
  gdt[kSlotIndex + 1] = 1ULL << 40;
  struct Frame frame = supervisor_frame(load_tr);
  frame.rax = kSlot;
  if (!under_tcg()) CHECK_EQUAL("TR: a type in the upper half", run(&frame).vector, 13);
  gdt[kSlotIndex] = descriptor(0x89, 0);
  gdt[kSlotIndex + 1] = 0x8000;  // not canonical
  if (!under_tcg()) CHECK_EQUAL("TR: base not canonical", run(&frame).vector, 13);
}

/// Every type, DPL, CPL and RPL.
static void questions(void) {
  enum { kLar = 1, kLsl = 2, kRead = 4, kWrite = 8 };
  for (unsigned bits = 0; bits < 256; ++bits) {
    const unsigned type = bits & 0x1F, dpl = bits & 0x20 ? 3 : 0, rpl = bits & 0x40 ? 3 : 0;
    const bool user = bits & 0x80, segment = type & 0x10, code = segment && (type & 8), conforming = code && (type & 4);
    const unsigned privilege = user ? 3 : rpl;
    // TCG accepts the types of legacy mode as well.
    if (under_tcg() && (type == 1 || type == 3 || type == 4 || type == 5)) continue;
    unsigned expected = 0;
    if (conforming || dpl >= privilege) {
      if (segment || type == 2 || type == 9 || type == 0xB || type == 0xC) expected |= kLar;
      if (segment || type == 2 || type == 9 || type == 0xB) expected |= kLsl;
      if (segment && (!code || (type & 2))) expected |= kRead;
      if (segment && !code && (type & 2)) expected |= kWrite;
    }
    gdt[kSlotIndex] = descriptor(0x80 | dpl << 5 | type, 8);
    gdt[kSlotIndex + 1] = 0;
    struct Frame frame = user ? user_frame(ask) : supervisor_frame(ask);
    frame.rax = kSlot | rpl;
    frame.rcx = frame.rdx = 0x1234;
    CHECK_EQUAL("selectors: questions", run(&frame).vector, 0x80);
    const unsigned actual =
        (last_frame.rbx & 1) | (last_frame.rbx >> 8 & 1) << 1 | (last_frame.r8 & 1) << 2 | (last_frame.r9 & 1) << 3;
    check(actual == expected, "LAR, LSL, VERR, VERW", bits << 8 | actual, bits << 8 | expected);
    const uint64_t rights = (0x80 | dpl << 5 | type) << 8 | 0x800000;
    CHECK_EQUAL("LAR: rights", last_frame.rcx & 0xF0FF00, expected & kLar ? rights : 0x1200);
    CHECK_EQUAL("LSL: limit", last_frame.rdx, expected & kLsl ? 0xFFFFFFFF : 0x1234);
  }
}

/// A selector in the LDT.
static void local_table(void) {
  static uint64_t ldt[4];
  ldt[1] = descriptor(0xF2, 0xC);
  gdt[kSlotIndex] = 15 | ((uint64_t)ldt & 0xFFFFFF) << 16 | 0x82ULL << 40 | ((uint64_t)ldt >> 24 & 0xFF) << 56;
  gdt[kSlotIndex + 1] = 0;
  __asm__ volatile("lldt %0" : : "r"((uint16_t)kSlot));
  struct Frame frame = user_frame(load_ds);
  frame.rax = 0xC | 3;
  CHECK_EQUAL("LDT: its data", run(&frame).vector, 0x80);
  frame.rax = 0x14;
  const struct Fault fault = run(&frame);
  CHECK_EQUAL("LDT: beyond its limit", fault.vector, 13);
  CHECK_EQUAL("LDT: beyond its limit", fault.error_code, 0x14);
  __asm__ volatile("lldt %0" : : "r"((uint16_t)0));
  frame.rax = 0xC;
  CHECK_EQUAL("LDT: gone", run(&frame).vector, 13);
}

void test_selectors(void) {
  loads();
  null_selectors();
  upper_halves();
  questions();
  local_table();
}
