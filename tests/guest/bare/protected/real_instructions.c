// Real mode (SDM vol. 3, 21.1; AMD APM vol. 2, 1.3.2): exceptions through the vector table, where they return to,
// limits, stacks, strings.
#include "real_mode.h"

enum { kDe, kDb, kBp = 3, kOf, kBr, kUd, kNm, kDf, kSs = 12, kGp, kMf = 16 };
enum { kTf = 0x100, kIf = 0x200, kDirection = 0x400, kNt = 0x4000, kReserved1 = 2 };

// --- Exceptions ---------------------------------------------------------------------------------------------------

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

// --- Limits -------------------------------------------------------------------------------------------------------

CODE_16(l_byte, "mov 0xFFFF, %al; int $0x80");
CODE_16(l_word, "mov 0xFFFF, %ax; int $0x80");
CODE_16(l_word_store, "mov %ax, 0xFFFF; int $0x80");
CODE_16(l_word_fits, "mov 0xFFFE, %ax; int $0x80");
CODE_16(l_dword, "mov 0xFFFD, %eax; int $0x80");
CODE_16(l_dword_fits, "mov 0xFFFC, %eax; int $0x80");
CODE_16(l_add, "add %cx, 0xFFFF; int $0x80");
CODE_16(l_sse, "movups 0xFFF1, %xmm0; int $0x80");
CODE_16(l_les, "les 0xFFFD, %bx; int $0x80");
CODE_16(l_wide, "mov $0x10000, %ebx; mov (%ebx), %al; int $0x80");
CODE_16(l_wide_stack, "mov $0x10000, %ebp; mov (%ebp), %al; int $0x80");
CODE_16(l_wide_esp, "mov %ss:0x12345678(,%eax), %al; int $0x80");
CODE_16(l_frame, "mov $0xFFFF, %bp; mov (%bp), %ax; int $0x80");
CODE_16(l_pop, "mov $0xFFFF, %sp; pop %ax; int $0x80");
CODE_16(l_push_32, "mov $2, %sp; pushl %eax; int $0x80");
CODE_16(l_near, "mov $0x10000, %eax; jmpl *%eax");

static void limits(void) {
  static const struct {
    const char* what;
    const uint8_t *code, *end;
    uint8_t vector, offset;
  } kRows[] = {
      {"limit: byte at FFFFH", l_byte, l_byte_end, kThrough, 5},
      {"limit: word at FFFFH", l_word, l_word_end, kGp, 0},
      {"limit: word stored at FFFFH", l_word_store, l_word_store_end, kGp, 0},
      {"limit: word at FFFEH", l_word_fits, l_word_fits_end, kThrough, 5},
      {"limit: doubleword at FFFDH", l_dword, l_dword_end, kGp, 0},
      {"limit: doubleword at FFFCH", l_dword_fits, l_dword_fits_end, kThrough, 6},
      {"limit: ADD at FFFFH", l_add, l_add_end, kGp, 0},
      {"limit: 16 bytes at FFF1H", l_sse, l_sse_end, kGp, 0},
      {"limit: far pointer at FFFDH", l_les, l_les_end, kGp, 0},
      {"limit: 32-bit address", l_wide, l_wide_end, kGp, 6},
      {"limit: 32-bit address by EBP", l_wide_stack, l_wide_stack_end, kSs, 6},
      {"limit: 32-bit address in SS", l_wide_esp, l_wide_esp_end, kSs, 0},
      {"limit: word at SS:FFFFH", l_frame, l_frame_end, kSs, 3},
      {"limit: POP at FFFFH", l_pop, l_pop_end, kSs, 3},
      {"limit: PUSH of 4 bytes at 2", l_push_32, l_push_32_end, kSs, 3},
      {"limit: JMP beyond 64 KiB", l_near, l_near_end, kGp, 6},
  };
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    if (under_tcg() && kRows[i].vector != kThrough) continue;  // which knows no limits here
    struct Real registers = real_registers_at_first();
    registers.eax = registers.ecx = 0;
    *real_memory(kRealData, 0xFFFF) = 0x5A;
    *real_memory(kRealData, 0) = 0xA5;
    const struct RealFrame frame = run_real(&registers, kRows[i].code, kRows[i].end, kStart);
    CHECK_EQUAL(kRows[i].what, registers.vector, kRows[i].vector);
    CHECK_EQUAL(kRows[i].what, frame.ip - kStart, kRows[i].offset);
    CHECK_EQUAL(kRows[i].what, *real_memory(kRealData, 0xFFFF), 0x5A);
    CHECK_EQUAL(kRows[i].what, *real_memory(kRealData, 0), 0xA5);
  }
}

CODE_16(c_end, "nop; nop");
CODE_16(c_over, "mov $0x1234, %ax");
CODE_16(c_back, "jmp . + 0x20");
CODE_16(c_forward, "jmp . - 0x20; .byte 0");

/// Code at the end of its segment: IP does not wrap when it runs on, but it does in a jump of 16 bits.
static void end_of_code(void) {
  struct Real registers = real_registers_at_first();
  struct RealFrame frame;
  if (!under_tcg()) {
    frame = run_real(&registers, c_end, c_end_end, 0xFFFE);
    CHECK_EQUAL("end of code: runs on", registers.vector, kGp);
    CHECK_EQUAL("end of code: IP", frame.ip, 0);
    registers = real_registers_at_first();
    frame = run_real(&registers, c_over, c_over_end, 0xFFFE);
    CHECK_EQUAL("end of code: an instruction over it", registers.vector, kGp);
    CHECK_EQUAL("end of code: its IP", frame.ip, 0xFFFE);
    CHECK_EQUAL("end of code: it has not been executed", registers.eax, 0);
  }
  *real_memory(kRealCode, 0x10) = *real_memory(kRealCode, 0xFFF0) = 0xCD;
  *real_memory(kRealCode, 0x11) = *real_memory(kRealCode, 0xFFF1) = kThrough;
  registers = real_registers_at_first();
  frame = run_real(&registers, c_back, c_back_end, 0xFFF0);
  CHECK_EQUAL("end of code: a jump over it", registers.vector, kThrough);
  CHECK_EQUAL("end of code: wraps", frame.ip, 0x12);
  *real_memory(kRealCode, 0xFFF0) = 0xCD;
  *real_memory(kRealCode, 0xFFF1) = kThrough;
  registers = real_registers_at_first();
  frame = run_real(&registers, c_forward, c_forward_end, 0x10);
  CHECK_EQUAL("end of code: a jump backwards over its start", registers.vector, kThrough);
  CHECK_EQUAL("end of code: wraps backwards", frame.ip, 0xFFF2);
}

// --- Stacks -------------------------------------------------------------------------------------------------------

CODE_16(s_push, "mov $0x1234, %ax; push %ax; push %ax; int $0x80");
CODE_16(s_pop, "pop %ax; pop %bx; int $0x80");
CODE_16(s_pusha, "mov $0x1111, %ax; mov $0x2222, %cx; mov $0x7777, %di; pusha; int $0x80");
CODE_16(s_call, "call 1f; int $0x80; 1: pop %ax; push %ax; ret");
CODE_16(s_far_call, "push %cs; call 1f; int $0x80; 1: mov %sp, %ax; lret");
CODE_16(s_ret, "push $1; push $2; push $1f - s_ret + 0x100; ret $4; int3; 1: int $0x80");
CODE_16(s_iret, "pushw $0x7ED7; push %cs; pushw $1f - s_iret + 0x100; iret; int3; 1: pushf; pop %bx; cli; int $0x80");
CODE_16(
    s_iret_32,
    "pushl $0x247ED7; pushl $0x1000; pushl $1f - s_iret_32 + 0x100; iretl; int3; 1: pushfl; pop %ebx; cli; int $0x80");
CODE_16(s_iret_beyond, "pushl $2; pushl $0x1000; pushl $0x10000; iretl");
CODE_16(s_enter, "mov $0x1234, %bp; enter $0x10, $0; mov %sp, %ax; mov %bp, %cx; leave; int $0x80");
CODE_16(s_enter_2, "mov $0x4000, %bp; enter $4, $2; int $0x80");
CODE_16(s_push_sp, "push %sp; pop %ax; int $0x80");
CODE_16(s_lss, "movw $0x100, 0x10; movw $0x5800, 0x12; lss 0x10, %sp; push %cs; int $0x80");
CODE_16(s_pop_ss, "push $0x5800; pop %ss; mov $0x200, %sp; int $0x80");

static void check_stack(const char* what, const uint8_t* code, const uint8_t* end, uint32_t esp, uint32_t esp_after,
                        struct Real* registers) {
  *registers = real_registers_at_first();
  registers->esp = esp;
  run_real(registers, code, end, kStart);
  CHECK_EQUAL(what, registers->vector, kThrough);
  // But for the frame of its end.
  CHECK_EQUAL(what, (registers->esp & 0xFFFF0000) | (uint16_t)(registers->esp + 6), esp_after);
}

static void stacks(void) {
  struct Real r;
  // The upper half of ESP takes no part.
  check_stack("stack: upper half of ESP", s_push, s_push_end, 0x12348000, 0x12347FFC, &r);
  r = real_registers_at_first();
  r.esp = 2;
  run_real(&r, s_push, s_push_end, kStart);
  CHECK_EQUAL("stack: PUSH wraps", r.vector, kThrough);
  CHECK_EQUAL("stack: PUSH wraps, SP", r.esp & 0xFFFF, 0xFFF8);
  CHECK_EQUAL("stack: at 0", real_word(kRealStack, 0), 0x1234);
  CHECK_EQUAL("stack: at FFFEH", real_word(kRealStack, 0xFFFE), 0x1234);
  *real_memory(kRealStack, 0xFFFE) = 0x11;
  *real_memory(kRealStack, 0xFFFF) = 0x22;
  *real_memory(kRealStack, 0) = 0x33;
  *real_memory(kRealStack, 1) = 0x44;
  check_stack("stack: POP wraps", s_pop, s_pop_end, 0xFFFE, 2, &r);
  CHECK_EQUAL("stack: POP at FFFEH", r.eax, 0x2211);
  CHECK_EQUAL("stack: POP at 0", r.ebx, 0x4433);
  r = real_registers_at_first();
  r.esp = 8;
  run_real(&r, s_pusha, s_pusha_end, kStart);
  CHECK_EQUAL("stack: PUSHA wraps", r.vector, kThrough);
  CHECK_EQUAL("stack: PUSHA, SP", r.esp & 0xFFFF, (uint16_t)(8 - 16 - 6));
  CHECK_EQUAL("stack: PUSHA, AX", real_word(kRealStack, 6), 0x1111);
  CHECK_EQUAL("stack: PUSHA, CX", real_word(kRealStack, 4), 0x2222);
  CHECK_EQUAL("stack: PUSHA, SP before", real_word(kRealStack, 0xFFFE), 8);
  CHECK_EQUAL("stack: PUSHA, DI", real_word(kRealStack, 0xFFF8), 0x7777);
  // The frame of an interrupt wraps, too.
  r = real_registers_at_first();
  r.esp = 4;
  const struct RealFrame frame = run_real(&r, r_int, r_int_end, kStart);
  CHECK_EQUAL("stack: a frame that wraps", r.vector, 0x55);
  CHECK_EQUAL("stack: SP", r.esp & 0xFFFF, 0xFFFE);
  CHECK_EQUAL("stack: IP at FFFEH", frame.ip, kStart + 2);
  CHECK_EQUAL("stack: CS at 0", frame.cs, kRealCode);

  check_stack("stack: CALL and RET", s_call, s_call_end, 0x8000, 0x8000, &r);
  CHECK_EQUAL("stack: return address", r.eax, kStart + 3);
  check_stack("stack: CALL at 0", s_call, s_call_end, 0x10000, 0x10000, &r);
  check_stack("stack: far return", s_far_call, s_far_call_end, 0x8000, 0x8000, &r);
  CHECK_EQUAL("stack: far call, SP", r.eax, 0x8000 - 4);
  check_stack("stack: RET 4", s_ret, s_ret_end, 0x8000, 0x8000, &r);
  check_stack("stack: IRET", s_iret, s_iret_end, 0x8000, 0x8000, &r);
  CHECK_EQUAL("stack: flags of IRET", r.ebx & 0xFFFF, 0x7ED7);
  check_stack("stack: IRET, 32 bits", s_iret_32, s_iret_32_end, 0x8000, 0x8000, &r);
  CHECK_EQUAL("stack: flags of IRET, 32 bits", r.ebx, 0x247ED7);
  if (!under_tcg()) {
    r = real_registers_at_first();
    run_real(&r, s_iret_beyond, s_iret_beyond_end, kStart);
    CHECK_EQUAL("stack: IRET beyond 64 KiB", r.vector, kGp);
    CHECK_EQUAL("stack: IRET beyond 64 KiB, SP", r.esp, 0x8000 - 12 - 6);
  }
  check_stack("stack: ENTER and LEAVE", s_enter, s_enter_end, 0x8000, 0x8000, &r);
  CHECK_EQUAL("stack: ENTER, SP", r.eax, 0x8000 - 2 - 0x10);
  CHECK_EQUAL("stack: ENTER, BP", r.ecx, 0x8000 - 2);
  CHECK_EQUAL("stack: LEAVE, BP", r.ebp, 0x1234);
  *real_memory(kRealStack, 0x3FFE) = 0x66;
  *real_memory(kRealStack, 0x3FFF) = 0x55;
  check_stack("stack: ENTER of level 2", s_enter_2, s_enter_2_end, 0x8000, 0x8000 - 6 - 4, &r);
  CHECK_EQUAL("stack: frame pointer copied", real_word(kRealStack, 0x7FFC), 0x5566);
  CHECK_EQUAL("stack: and its own", real_word(kRealStack, 0x7FFA), 0x7FFE);
  check_stack("stack: PUSH SP", s_push_sp, s_push_sp_end, 0x8000, 0x8000, &r);
  CHECK_EQUAL("stack: PUSH SP, what it was", r.eax, 0x8000);
  check_stack("stack: LSS", s_lss, s_lss_end, 0x8000, 0xFE, &r);
  CHECK_EQUAL("stack: LSS, SS", r.ss, 0x5800);
  CHECK_EQUAL("stack: behind LSS", real_word(0x5800, 0xFE), kRealCode);
  check_stack("stack: POP SS", s_pop_ss, s_pop_ss_end, 0x8000, 0x200, &r);
}

// --- Strings ------------------------------------------------------------------------------------------------------

CODE_16(t_movsb, "rep movsb; int $0x80");
CODE_16(t_movsw, "rep movsw; int $0x80");
CODE_16(t_movsl, "rep movsl; int $0x80");
CODE_16(t_stosb, "rep stosb; int $0x80");
CODE_16(t_stosw, "rep stosw; int $0x80");
CODE_16(t_scasb, "repne scasb; int $0x80");
CODE_16(t_cmpsb, "repe cmpsb; int $0x80");
CODE_16(t_lodsw, "rep lodsw; int $0x80");
CODE_16(t_wide, "addr32 rep movsb; int $0x80");
CODE_16(t_from_code, "mov $0x100, %si; rep movsb %cs:(%si), %es:(%di); int $0x80");
CODE_16(t_loop, "1: inc %ax; loop 1b; int $0x80");
CODE_16(t_loop_32, "1: inc %ax; addr32 loop 1b; int $0x80");

/// From DS to ES, each filled with a pattern of its own.
enum { kTo = 0x5800 };
static void fill(void) {
  for (unsigned i = 0; i < 0x10000; ++i) {
    *real_memory(kRealData, (uint16_t)i) = (uint8_t)(i * 3 + 1);
    if (i < 0x8000) *real_memory(kTo, (uint16_t)i) = 0xEE;
  }
}

static void strings(void) {
  static const struct {
    const char* what;
    const uint8_t *code, *end;
    uint32_t ecx, esi, edi;
    bool backwards;
    uint8_t vector;
    uint32_t ecx_after, esi_after, edi_after;
  } kRows[] = {
      {"REP MOVSB", t_movsb, t_movsb_end, 16, 0x100, 0x200, false, kThrough, 0, 0x110, 0x210},
      {"REP MOVSB, CX 0", t_movsb, t_movsb_end, 0, 0x100, 0x200, false, kThrough, 0, 0x100, 0x200},
      {"REP MOVSB, upper halves", t_movsb, t_movsb_end, 0x50010, 0x60100, 0x70200, false, kThrough, 0x50000, 0x60110,
       0x70210},
      {"REP MOVSB, source wraps", t_movsb, t_movsb_end, 16, 0xFFF8, 0x200, false, kThrough, 0, 8, 0x210},
      {"REP MOVSB, backwards over 0", t_movsb, t_movsb_end, 16, 8, 0x200, true, kThrough, 0, 0xFFF8, 0x1F0},
      {"REP MOVSW", t_movsw, t_movsw_end, 16, 0x100, 0x200, false, kThrough, 0, 0x120, 0x220},
      {"REP MOVSW, source wraps", t_movsw, t_movsw_end, 8, 0xFFF8, 0x200, false, kThrough, 0, 8, 0x210},
      {"REP MOVSW, source at FFFFH", t_movsw, t_movsw_end, 8, 0xFFFB, 0x200, false, kGp, 6, 0xFFFF, 0x204},
      {"REP MOVSD, source at FFFEH", t_movsl, t_movsl_end, 8, 0xFFF6, 0x200, false, kGp, 6, 0xFFFE, 0x208},
      {"REP MOVSD, backwards", t_movsl, t_movsl_end, 4, 0x100, 0x200, true, kThrough, 0, 0xF0, 0x1F0},
      {"REP STOSB", t_stosb, t_stosb_end, 5, 0, 0x7000, false, kThrough, 0, 0, 0x7005},
      {"REP STOSW, backwards", t_stosw, t_stosw_end, 5, 0, 0x7000, true, kThrough, 0, 0, 0x6FF6},
      {"REP LODSW, wraps", t_lodsw, t_lodsw_end, 5, 0xFFFC, 0, false, kThrough, 0, 6, 0},
      {"REP MOVSB, 32-bit addresses", t_wide, t_wide_end, 16, 0x100, 0x200, false, kThrough, 0, 0x110, 0x210},
      {"REP MOVSB, 32-bit addresses, beyond", t_wide, t_wide_end, 16, 0xFFF8, 0x200, false, kGp, 8, 0x10000, 0x208},
      {"REP MOVSB, 32-bit count", t_wide, t_wide_end, 0x10000, 0xFFFF, 0x7000, true, kGp, 0x8FFF, 0x8FFE, 0xFFFFFFFF},
      {"LOOP", t_loop, t_loop_end, 0x10003, 0, 0, false, kThrough, 0x10000, 0, 0},
      {"LOOP, ECX", t_loop_32, t_loop_32_end, 0x10003, 0, 0, false, kThrough, 0, 0, 0},
  };
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    if (under_tcg() && kRows[i].vector != kThrough) continue;
    fill();
    struct Real r = real_registers_at_first();
    r.es = kTo;
    r.ecx = kRows[i].ecx;
    r.esi = kRows[i].esi;
    r.edi = kRows[i].edi;
    r.flags = kReserved1 | (kRows[i].backwards ? kDirection : 0);
    const struct RealFrame frame = run_real(&r, kRows[i].code, kRows[i].end, kStart);
    CHECK_EQUAL(kRows[i].what, r.vector, kRows[i].vector);
    if (kRows[i].vector == kGp) CHECK_EQUAL(kRows[i].what, frame.ip, kStart);
    CHECK_EQUAL(kRows[i].what, r.ecx, kRows[i].ecx_after);
    CHECK_EQUAL(kRows[i].what, r.esi, kRows[i].esi_after);
    CHECK_EQUAL(kRows[i].what, r.edi, kRows[i].edi_after);
    if (kRows[i].code == t_movsb || kRows[i].code == t_movsw || kRows[i].code == t_movsl) {
      // Byte by byte what lies as far from where it ended.
      const unsigned size = kRows[i].code == t_movsb ? 1 : kRows[i].code == t_movsw ? 2 : 4;
      const unsigned moved = ((uint16_t)kRows[i].ecx - (uint16_t)kRows[i].ecx_after) * size;
      for (unsigned n = 0; n < moved; ++n) {
        const unsigned distance = kRows[i].backwards ? 0U - n + size - 1 : n;
        const uint8_t wanted = *real_memory(kRealData, (uint16_t)(kRows[i].esi + distance));
        CHECK_EQUAL(kRows[i].what, *real_memory(kTo, (uint16_t)(kRows[i].edi + distance)), wanted);
      }
    }
    if (kRows[i].code == t_loop) CHECK_EQUAL("LOOP", r.eax & 0xFFFF, 3);
    if (kRows[i].code == t_loop_32) CHECK_EQUAL("LOOP, ECX", r.eax & 0xFFFF, 3);  // for AX has wrapped once
  }
  // Found, and what ends a comparison.
  fill();
  struct Real r = real_registers_at_first();
  r.es = kRealData;
  r.ecx = 0x20;
  r.edi = 0xFFF0;
  r.eax = *real_memory(kRealData, 5);
  run_real(&r, t_scasb, t_scasb_end, kStart);
  CHECK_EQUAL("REPNE SCASB over the end", r.edi, 6);
  CHECK_EQUAL("REPNE SCASB, count", r.ecx, 0x20 - 0x16);
  for (unsigned i = 0; i < 16; ++i) *real_memory(kTo, (uint16_t)i) = *real_memory(kRealData, (uint16_t)i);
  *real_memory(kTo, 9) ^= 1;
  r = real_registers_at_first();
  r.es = kTo;
  r.ecx = 16;
  run_real(&r, t_cmpsb, t_cmpsb_end, kStart);
  CHECK_EQUAL("REPE CMPSB", r.ecx, 6);
  CHECK_EQUAL("REPE CMPSB, SI", r.esi, 10);
  r = real_registers_at_first();
  r.ecx = 4;
  r.edi = 0x200;
  run_real(&r, t_from_code, t_from_code_end, kStart);
  CHECK_EQUAL("REP MOVSB from CS", r.vector, kThrough);
  for (unsigned i = 0; i < 4; ++i) CHECK_EQUAL("REP MOVSB from CS", *real_memory(kRealData, 0x200 + i), t_from_code[i]);
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

CODE_16(a_wrap, "mov $0xFFFF, %bx; mov $2, %si; mov (%bx,%si), %al; mov 0x7FFF(%bx), %ah; int $0x80");
CODE_16(a_high, "mov $0xFFFF, %ax; mov %ax, %ds; mov 0x10, %eax; int $0x80");
CODE_16(a_far, "ljmp $0x0FF0, $0x200 + 1f - a_far; nop; 1: mov %cs, %ax; int $0x80");
CODE_16(a_les, "movl $0x12345678, 0x10; les 0x10, %bx; lfs 0x10, %cx; mov %es, %ax; mov %fs, %dx; int $0x80");
CODE_16(a_lmsw,
        "smsw %ax; or $1, %ax; lmsw %ax; smsw %bx; xor %ax, %ax; lmsw %ax; smsw %cx; mov %cr0, %eax; and $0xFE, %al; "
        "mov %eax, %cr0; int $0x80");

/// Offsets wrap at 64 KiB, linear addresses do not at 1 MiB (A20 is always open); far pointers; LMSW.
static void addresses(void) {
  *real_memory(kRealData, 1) = 0x77;
  *real_memory(kRealData, 0x7FFE) = 0x66;
  struct Real r = real_registers_at_first();
  run_real(&r, a_wrap, a_wrap_end, kStart);
  CHECK_EQUAL("address: BX+SI wraps", r.eax & 0xFF, 0x77);
  CHECK_EQUAL("address: BX+displacement wraps", r.eax >> 8, 0x66);
  r = real_registers_at_first();
  run_real(&r, a_high, a_high_end, kStart);
  CHECK_EQUAL("address: FFFFH:10H is 100000H", r.eax, *(volatile uint32_t*)low_memory(0x100000));
  r = real_registers_at_first();
  const struct RealFrame frame = run_real(&r, a_far, a_far_end, kStart);
  CHECK_EQUAL("far jump: CS", r.eax, 0x0FF0);
  CHECK_EQUAL("far jump: CS pushed", frame.cs, 0x0FF0);
  r = real_registers_at_first();
  run_real(&r, a_les, a_les_end, kStart);
  CHECK_EQUAL("LES: ES", r.eax, 0x1234);
  CHECK_EQUAL("LES: BX", r.ebx, 0x5678);
  CHECK_EQUAL("LFS: FS", r.edx, 0x1234);
  CHECK_EQUAL("LFS: CX", r.ecx, 0x5678);
  r = real_registers_at_first();
  run_real(&r, a_lmsw, a_lmsw_end, kStart);
  CHECK_EQUAL("LMSW: sets PE", r.ebx & 1, 1);
  CHECK_EQUAL("LMSW: does not clear it", r.ecx & 1, 1);
  CHECK_EQUAL("LMSW: MOV does", r.cr0 & 1, 0);
}

void test_real_mode(void) {
  set_up_real_mode();
  exceptions();
  pushed_flags();
  limits();
  end_of_code();
  stacks();
  strings();
  vector_table();
  addresses();
}
