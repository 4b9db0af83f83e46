// Stacks in real mode: SP of 16 bits that wraps, calls, returns, IRET, ENTER, loads of SS.
#include "real_mode.h"

enum { kGp = 13 };

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
CODE_16(s_int, "int $0x55");
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
  const struct RealFrame frame = run_real(&r, s_int, s_int_end, kStart);
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

void test_real_stacks(void) {
  set_up_real_mode();
  stacks();
}
