// Addresses in real mode (SDM vol. 3, 21.1.1): limits of 64 KiB, what wraps and what does not.
#include "real_mode.h"

enum { kSs = 12, kGp = 13 };

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

// --- Addresses ----------------------------------------------------------------------------------------------------

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

void test_real_limits(void) {
  set_up_real_mode();
  limits();
  end_of_code();
  addresses();
}
