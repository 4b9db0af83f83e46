// Vectors, error codes and saved RIP of exceptions (SDM vol. 3, ch. 6).
#include "bare.h"

extern uint8_t fault_at[], trap_at[];

static void divide(void* a) {
  (void)a;
  __asm__ volatile("xor %%ecx, %%ecx; xor %%edx, %%edx; .globl fault_at; fault_at: div %%ecx"
                   :
                   :
                   : "rax", "rcx", "rdx");
}
static void undefined(void* a) {
  (void)a;
  __asm__ volatile("ud2");
}
static void breakpoint(void* a) {
  (void)a;
  __asm__ volatile("int3; .globl trap_at; trap_at: nop");
}
static void non_canonical(void* a) {
  (void)a;
  __asm__ volatile("mov (%0), %%al" : : "r"(0x8000000000000000) : "rax");
}
static void non_canonical_stack(void* a) {
  (void)a;
  __asm__ volatile("mov %%rsp, %%rdx; mov %0, %%rsp; mov (%%rsp), %%rax; mov %%rdx, %%rsp"
                   :
                   : "r"(0x8000000000000000)
                   : "rax", "rdx");
}
static void load_ds(void* a) {
  __asm__ volatile("mov %0, %%ds" : : "r"((uint64_t)a));
}
static void software_interrupt(void* a) {
  (void)a;
  __asm__ volatile("int $0x40");
}
static void write_cr4_reserved(void* a) {
  (void)a;
  write_cr4(read_cr4() | 1ULL << 40);
}
static void write_cr0_nonsense(void* a) {
  (void)a;
  write_cr0(read_cr0() & ~1ULL);
}
static void unknown_msr(void* a) {
  (void)a;
  __asm__ volatile("rdmsr" : : "c"(0x12345678) : "rax", "rdx");
}
static void x87(void* a) {
  (void)a;
  __asm__ volatile("fldz");
}
static void x87_error(void* a) {
  (void)a;
  __asm__ volatile("fninit; movw $0x37B, -8(%%rsp); fldcw -8(%%rsp); fld1; fldz; fdivrp; fwait" : : : "memory");
}
static void simd_error(void* a) {
  (void)a;
  __asm__ volatile(
      "movl $0x1D80, -8(%%rsp); ldmxcsr -8(%%rsp); pcmpeqd %%xmm0, %%xmm0; cvtdq2ps %%xmm0, %%xmm0; xorps %%xmm1, "
      "%%xmm1; divps %%xmm1, %%xmm0"
      :
      :
      : "memory");
}
static void misaligned(void* a) {
  (void)a;
  __asm__ volatile("movaps 1(%rsp), %xmm0");
}
static void page_fault(void* a) {
  (void)a;
  __asm__ volatile("mov %0, %%al" : : "m"(*(volatile uint8_t*)(kWindow + 0x100000)) : "rax");
}
static void single_step(void* a) {
  (void)a;
  __asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq; nop; nop" : : : "memory");
}
static void step_after_mov_ss(void* a) {
  (void)a;
  __asm__ volatile(
      "mov $16, %%eax; pushfq; orl $0x100, (%%rsp); popfq; mov %%eax, %%ss; nop; .globl stepped_at; stepped_at: nop"
      :
      :
      : "rax", "memory");
}
static void long_instruction(void* a) {
  (void)a;
  __asm__ volatile(".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90");
}
static void expect(const char* what, void (*action)(void*), void* argument, int vector, uint64_t code) {
  const struct Fault fault = attempt(action, argument);
  CHECK_EQUAL(what, fault.vector, vector);
  CHECK_EQUAL(what, fault.error_code, code);
}

void test_exceptions(void) {
  extern uint8_t stepped_at[];
  expect("divide error", divide, 0, 0, 0);
  CHECK_EQUAL("divide error: RIP", last_frame.rip, (uint64_t)fault_at);
  expect("undefined", undefined, 0, 6, 0);
  expect("breakpoint", breakpoint, 0, 3, 0);
  CHECK_EQUAL("breakpoint: RIP", last_frame.rip, (uint64_t)trap_at);
  expect("non-canonical address", non_canonical, 0, 13, 0);
  if (!under_tcg()) expect("non-canonical stack", non_canonical_stack, 0, 12, 0);
  expect("selector beyond the GDT", load_ds, (void*)0x1000, 13, 0x1000);
  expect("selector in no LDT", load_ds, (void*)0x14, 13, 0x14);
  expect("system segment in DS", load_ds, (void*)0x28, 13, 0x28);
  set_gate_present(0x40, false);
  if (!under_tcg()) expect("gate not present", software_interrupt, 0, 11, 0x40 * 8 + 2);
  set_gate_present(0x40, true);
  if (!under_tcg()) expect("reserved bits of CR4", write_cr4_reserved, 0, 13, 0);
  if (!under_tcg()) expect("paging without protection", write_cr0_nonsense, 0, 13, 0);
  if (!under_tcg()) expect("unknown MSR", unknown_msr, 0, 13, 0);
  expect("16 bytes of instruction", long_instruction, 0, 13, 0);
  write_cr0(read_cr0() | 8);
  expect("x87 with CR0.TS", x87, 0, 7, 0);
  write_cr0(read_cr0() & ~8ULL);
  expect("x87 error", x87_error, 0, 16, 0);
  __asm__ volatile("fninit");
  if (!under_tcg()) expect("SIMD error", simd_error, 0, 19, 0);
  expect("misaligned MOVAPS", misaligned, 0, 13, 0);
  expect("single step", single_step, 0, 1, 0);
  expect("single step after MOV SS", step_after_mov_ss, 0, 1, 0);
  CHECK_EQUAL("single step after MOV SS: RIP", last_frame.rip, (uint64_t)stepped_at);
  // A page fault whose handler is not there: the second fault is contributory.
  set_gate_present(14, false);
  expect("double fault", page_fault, 0, 8, 0);
  set_gate_present(14, true);
  expect("page fault", page_fault, 0, 14, 0);
}
