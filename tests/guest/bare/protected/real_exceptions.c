// Exceptions and interrupts in real mode (SDM vol. 3, 21.1.4): what is pushed, where they return to, the vector table.
#include "real_mode.h"

enum { kDe, kDb, kBp = 3, kOf, kBr, kUd, kNm, kDf, kGp = 13, kMf = 16 };
enum { kTf = 0x100, kIf = 0x200, kDirection = 0x400, kNt = 0x4000, kReserved1 = 2 };

CODE_16(r_div, "xor %cx, %cx; div %cx");
CODE_16(r_idiv, "mov $1, %dx; mov $2, %cx; idiv %cx");
CODE_16(r_aam, "aam $0");
CODE_16(r_int3, "int3");
CODE_16(r_int, "int $0x55");
CODE_16(r_into, "mov $0x7F, %al; add $1, %al; into");
CODE_16(r_no_into, "mov $0x6F, %al; add $1, %al; into; int $0x80");
CODE_16(r_bound_low, "movw $5, 0x10; movw $9, 0x12; mov $4, %ax; bound %ax, 0x10");
CODE_16(r_bound_high, "movw $5, 0x10; movw $9, 0x12; mov $10, %ax; bound %ax, 0x10");
CODE_16(r_in_bound,
        "movw $5, 0x10; movw $9, 0x12; mov $9, %ax; bound %ax, 0x10; mov $5, %ax; bound %ax, 0x10; int $0x80");
CODE_16(r_bound_32, "movl $5, 0x10; movl $9, 0x14; mov $0x10005, %eax; bound %eax, 0x10");
CODE_16(r_ud2, "ud2");
CODE_16(r_ts, "mov %cr0, %eax; or $8, %al; mov %eax, %cr0; fnop");
CODE_16(r_mf, "fninit; movw $0x37B, 0x10; fldcw 0x10; fld1; fldz; fdivrp; nop; fwait");
CODE_16(r_lock, "lock; nop");
CODE_16(r_lar, "lar %ax, %ax");
CODE_16(r_lsl, "lsl %ax, %ax");
CODE_16(r_verr, "verr %ax");
CODE_16(r_verw, "verw %ax");
CODE_16(r_sldt, "sldt %ax");
CODE_16(r_str, "str %ax");
CODE_16(r_lldt, "lldt %ax");
CODE_16(r_ltr, "ltr %ax");
CODE_16(r_arpl, "arpl %ax, %ax");
CODE_16(r_vex, ".byte 0xC5, 0xF8, 0x77");
CODE_16(r_pg, "mov %cr0, %eax; or $0x80000000, %eax; mov %eax, %cr0");
CODE_16(r_sysenter, "sysenter");
CODE_16(r_sysexit, "sysexit");
CODE_16(r_long, ".fill 15, 1, 0x2E; nop");
CODE_16(r_privileged,
        "cli; mov %cr3, %eax; clts; smsw %ax; sgdt 0x20; sidt 0x28; invlpg 0x20; wbinvd; in $0x92, %al; int $0x80");
CODE_16(r_step, "pushf; pop %ax; or $0x100, %ax; push %ax; popf; inc %cx; inc %cx; int $0x80");
CODE_16(r_step_int, "pushf; pop %ax; or $0x100, %ax; push %ax; popf; int $0x55");
CODE_16(r_step_mov_ss, "mov %ss, %bx; pushf; pop %ax; or $0x100, %ax; push %ax; popf; mov %bx, %ss; inc %cx; inc %cx");

static void exceptions(void) {
  static const struct {
    const char* what;
    const uint8_t *code, *end;
    uint8_t vector, offset;  // of the address that is pushed
    bool not_tcg;
  } kRows[] = {
      {"real: DIV", r_div, r_div_end, kDe, 2, false},
      {"real: IDIV, overflow", r_idiv, r_idiv_end, kDe, 6, false},
      {"real: AAM 0", r_aam, r_aam_end, kDe, 0, false},
      {"real: INT3", r_int3, r_int3_end, kBp, 1, false},
      {"real: INT 55H", r_int, r_int_end, 0x55, 2, false},
      {"real: INTO", r_into, r_into_end, kOf, 5, false},
      {"real: INTO without OF", r_no_into, r_no_into_end, kThrough, 7, false},
      {"real: BOUND, below", r_bound_low, r_bound_low_end, kBr, 15, false},
      {"real: BOUND, above", r_bound_high, r_bound_high_end, kBr, 15, false},
      {"real: BOUND, inside", r_in_bound, r_in_bound_end, kThrough, 28, false},
      {"real: BOUND, 32 bits", r_bound_32, r_bound_32_end, kBr, 24, false},
      {"real: UD2", r_ud2, r_ud2_end, kUd, 0, false},
      {"real: CR0.TS", r_ts, r_ts_end, kNm, 8, false},
      {"real: x87 error", r_mf, r_mf_end, kMf, 19, false},
      {"real: LOCK NOP", r_lock, r_lock_end, kUd, 0, false},
      {"real: LAR", r_lar, r_lar_end, kUd, 0, false},
      {"real: LSL", r_lsl, r_lsl_end, kUd, 0, false},
      {"real: VERR", r_verr, r_verr_end, kUd, 0, false},
      {"real: VERW", r_verw, r_verw_end, kUd, 0, false},
      {"real: SLDT", r_sldt, r_sldt_end, kUd, 0, false},
      {"real: STR", r_str, r_str_end, kUd, 0, false},
      {"real: LLDT", r_lldt, r_lldt_end, kUd, 0, false},
      {"real: LTR", r_ltr, r_ltr_end, kUd, 0, false},
      {"real: ARPL", r_arpl, r_arpl_end, kUd, 0, false},
      {"real: VZEROUPPER", r_vex, r_vex_end, kUd, 0, false},
      {"real: PG without PE", r_pg, r_pg_end, kGp, 9, true},
      {"real: SYSENTER", r_sysenter, r_sysenter_end, kGp, 0, false},
      {"real: SYSEXIT", r_sysexit, r_sysexit_end, kGp, 0, false},
      {"real: 16 bytes long", r_long, r_long_end, kGp, 0, false},
      {"real: privileged", r_privileged, r_privileged_end, kThrough, 30, false},
      {"real: single step", r_step, r_step_end, kDb, 8, false},
      {"real: single step over INT", r_step_int, r_step_int_end, 0x55, 9, false},
      {"real: single step behind MOV SS", r_step_mov_ss, r_step_mov_ss_end, kDb, 12, true},
  };
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    if (kRows[i].not_tcg && under_tcg()) continue;
    // From an even place and from an odd one; vectors are entered with IF and TF clear, the rest as it was.
    for (uint16_t at = kStart; at < kStart + 2; ++at) {
      struct Real registers = real_registers_at_first();
      registers.flags = kReserved1 | kNt | kDirection | 0x3000;
      const struct RealFrame frame = run_real(&registers, kRows[i].code, kRows[i].end, at);
      CHECK_EQUAL(kRows[i].what, registers.vector, kRows[i].vector);
      CHECK_EQUAL(kRows[i].what, (uint16_t)(frame.ip - at), kRows[i].offset);
      CHECK_EQUAL(kRows[i].what, frame.cs, kRealCode);
      CHECK_EQUAL(kRows[i].what, registers.esp, 0x8000 - 6);  // no error code
      CHECK_EQUAL(kRows[i].what, frame.flags & (kNt | kDirection | 0x3000), kNt | kDirection | 0x3000);
      CHECK_EQUAL(kRows[i].what, registers.flags & (kIf | kTf), 0);
      CHECK_EQUAL(kRows[i].what, registers.flags & (kNt | kDirection | 0x3000), kNt | kDirection | 0x3000);
    }
  }
}

CODE_16(r_sti_int, "sti; int $0x55");

/// What an interrupt pushes has IF, what it begins with has not.
static void pushed_flags(void) {
  struct Real registers = real_registers_at_first();
  const struct RealFrame frame = run_real(&registers, r_sti_int, r_sti_int_end, kStart);
  CHECK_EQUAL("real: INT after STI", registers.vector, 0x55);
  CHECK_EQUAL("real: pushed IF", frame.flags & kIf, kIf);
  CHECK_EQUAL("real: IF of the handler", registers.flags & kIf, 0);
}

// --- The vector table ---------------------------------------------------------------------------------------------

CODE_16(v_int, "nop; int $0x50");
// LIDT: a limit of 3FFH and the base 48000H, of which the 16-bit form has 24 bits.
CODE_16(v_lidt, "movw $0x3FF, 0x10; movl $0xFF048000, 0x12; lidt 0x10; sidt 0x18; int $0x50");
CODE_16(v_lidt_32, "movw $0x3FF, 0x10; movl $0x048000, 0x12; lidtl 0x10; sidtl 0x18; int $0x50");

static void vector_table(void) {
  struct Real r = real_registers_at_first();
  r.idt_limit = 4 * 0x50 + 3;
  struct RealFrame frame = run_real(&r, v_int, v_int_end, kStart);
  CHECK_EQUAL("IDT: just long enough", r.vector, 0x50);
  r = real_registers_at_first();
  r.idt_limit = 4 * 0x50 + 2;
  frame = run_real(&r, v_int, v_int_end, kStart);
  CHECK_EQUAL("IDT: too short", r.vector, kGp);
  CHECK_EQUAL("IDT: too short, IP", frame.ip, kStart + 1);
  CHECK_EQUAL("IDT: too short, no error code", r.esp, 0x8000 - 6);
  r = real_registers_at_first();
  r.idt_limit = 4 * kGp - 1;
  frame = run_real(&r, v_int, v_int_end, kStart);
  CHECK_EQUAL("IDT: too short for #GP", r.vector, kDf);

  for (unsigned i = 0; i < 1024; ++i) *low_memory(0x48000 + i) = *low_memory(i);
  *low_memory(0x48000 + 4 * 0x50) = 0x10;  // to the stub of vector 51H
  *low_memory(0x48000 + 4 * 0x50 + 1) = 0x05;
  r = real_registers_at_first();
  r.idt_base = 0x48000;
  run_real(&r, v_int, v_int_end, kStart);
  CHECK_EQUAL("IDT: elsewhere", r.vector, 0x51);
  r = real_registers_at_first();
  run_real(&r, v_lidt, v_lidt_end, kStart);
  CHECK_EQUAL("IDT: LIDT of 24 bits", r.vector, 0x51);
  CHECK_EQUAL("IDT: limit stored", real_word(kRealData, 0x18), 0x3FF);
  CHECK_EQUAL("IDT: base stored", real_word(kRealData, 0x1A) | (uint32_t)real_word(kRealData, 0x1C) << 16, 0x48000);
  r = real_registers_at_first();
  run_real(&r, v_lidt_32, v_lidt_32_end, kStart);
  CHECK_EQUAL("IDT: LIDT of 32 bits", r.vector, 0x51);
}

void test_real_exceptions(void) {
  set_up_real_mode();
  exceptions();
  pushed_flags();
  vector_table();
}
