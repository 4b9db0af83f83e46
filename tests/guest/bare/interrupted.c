// A long computation in all registers, on the stack, through calls and indirect jumps, comes to the same wherever and
// as often as it is interrupted; by a timer, and with four processors by each other as well.
#include "processors.h"

enum { kVector = 0x56, kEoi = 0xB0, kRounds = 4000 };

/// RDI: 64 bytes of memory of its own; ECX: rounds. The result is in RAX.
CODE(computation,
     "mov $0x123456789ABCDEF, %rax; mov $0x1111, %rbx; mov $0x2222, %edx; mov $0x3333, %esi; mov $0x4444, %ebp\n"
     "mov $0x5555, %r8d; mov $0x6666, %r9d; mov $0x7777, %r10d; mov $0x8888, %r11d; mov $0x9999, %r12d\n"
     "mov $0xAAAA, %r13d; mov $0xBBBB, %r14d; mov $0xCCCC, %r15d; movq %rax, %xmm0; movq %rbx, %xmm1; clc; fninit; "
     "fld1; fldpi\n"
     "1: adc %rbx, %rax; rcl $3, %rbx; sbb %r8, %rdx; xor %rax, %rsi; adc %rsi, %rbp; imul %r9, %r8; add %r8, %r9\n"
     "rol $7, %r10; adc %r10, %r11; push %rax; lahf; push %rax; mov %ah, %al; mov %al, %r12b; pop %rax; sahf; pop "
     "%rax; adc %r12, "
     "%r13\n"
     "mov %r13, (%rdi); add %r14, (%rdi); lock add %rbx, 8(%rdi); mov (%rdi), %r14; pushfq; andq $0xCD5, (%rsp); popq "
     "%r12\n"
     "call 3f; lea 4f(%rip), %r15; jmp *%r15; ud2; 4: paddq %xmm0, %xmm1; pshufd $0x93, %xmm1, %xmm0; movq %xmm0, "
     "16(%rdi)\n"
     "xor 16(%rdi), %rdx; fadd %st(1), %st; fstl 24(%rdi); add 24(%rdi), %rsi; bt $5, %rax; cmovc %rdx, %r11\n"
     "dec %ecx; jnz 1b\n"
     "add %rbx, %rax; add %rdx, %rax; add %rsi, %rax; add %rbp, %rax; add %r8, %rax; add %r9, %rax; add %r10, %rax\n"
     "add %r11, %rax; add %r12, %rax; add %r13, %rax; add %r14, %rax; movq %xmm1, %rbx; add %rbx, %rax; add 8(%rdi), "
     "%rax\n"
     "fninit; ret\n"
     "3: test $1, %al; jz 5f; add $3, %r10; ret; 5: xor $0x55, %r11; ret");

static volatile unsigned ticks[kMostCpus];

static bool tick(struct Frame* frame) {
  if (frame->vector != kVector) return false;
  const unsigned cpu = *apic(0x20) >> 24;
  // Whatever a handler may do to what is not the interrupted code's.
  __asm__ volatile("cld; xor %%eax, %%eax; cpuid" : : : "rax", "rbx", "rcx", "rdx");
  __atomic_fetch_add(&ticks[cpu], 1, __ATOMIC_SEQ_CST);
  *apic(kEoi) = 0;
  return true;
}

static uint64_t area[kMostCpus][8] __attribute__((aligned(64)));

static uint64_t compute(unsigned cpu, bool interrupts) {
  for (unsigned i = 0; i < 8; ++i) area[cpu][i] = 0;
  uint64_t rax, rdi = (uint64_t)area[cpu], rcx = kRounds;
  if (interrupts) __asm__ volatile("sti");
  __asm__ volatile("push %%rbp; call *%%rax; pop %%rbp"
                   : "=a"(rax), "+D"(rdi), "+c"(rcx)
                   : "a"(computation)
                   : "rbx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
  __asm__ volatile("cli");
  return rax;
}

static uint64_t wanted;

static void interrupted_often(unsigned cpu) {
  *apic(0x3E0) = 0xB;
  *apic(0x320) = 0x20000 | kVector;
  *apic(0x380) = 30011 + 997 * cpu;
  const unsigned until = ticks[cpu] + 100;
  for (unsigned i = 0; i < 2000 && (i < 20 || ticks[cpu] < until); ++i) {
    const uint64_t result = compute(cpu, true);
    if (result != wanted) check(false, "interrupted", result, wanted);
    if (cpu_count() > 1) send_ipi((cpu + i) % cpu_count(), kFixed | kVector);
  }
  *apic(0x320) = 0x10000;
  __asm__ volatile("sti; nop; nop; cli" : : : "memory");
  check(ticks[cpu] != 0, "interrupted: at all", ticks[cpu], 1);
}

void test_interrupted(void) {
  on_event = tick;
  *apic(0xF0) = 0x1FF;
  *apic(0x80) = 0;
  wanted = compute(0, false);
  CHECK_EQUAL("interrupted: by nothing", compute(0, false), wanted);
  if (cpu_count() > 1) {
    start_processors();
    on_all(interrupted_often);
    stop_processors();
  } else {
    interrupted_often(0);
  }
}
