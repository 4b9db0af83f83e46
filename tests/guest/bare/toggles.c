// Code that has been executed often under one setting of the processor, and meets another: the bits of control
// registers, MSRs and RFLAGS that decide whether an instruction or an access faults.
#include "bare.h"

enum { kUd = 6, kNm = 7, kGp = 13, kPf = 14, kAc = 17, kDb = 1, kDone = 0x80, kOften = 40 };
enum Register { kCr0, kCr4, kEfer, kFlags, kDr7, kXcr0, kSfmask };
#define kUserPage (kWindow + 40 * 4096)

CODE(t_store, "mov $20, %ecx; 1: mov %eax, (%rdi); dec %ecx; jnz 1b; int $0x80");
CODE(t_load, "mov $20, %ecx; 1: mov (%rdi), %eax; dec %ecx; jnz 1b; int $0x80");
CODE(t_misaligned, "mov $20, %ecx; 1: mov 1(%rdi), %eax; dec %ecx; jnz 1b; int $0x80");
CODE(t_add, "mov $20, %ecx; 1: addl $1, (%rdi); dec %ecx; jnz 1b; int $0x80");
CODE(t_push, "mov $20, %ecx; 1: push %rax; pop %rdx; dec %ecx; jnz 1b; int $0x80");
CODE(t_rdtsc, "mov $20, %esi; 1: rdtsc; dec %esi; jnz 1b; int $0x80");
CODE(t_cli, "mov $20, %ecx; 1: cli; dec %ecx; jnz 1b; int $0x80");
CODE(t_in, "mov $20, %ecx; 1: in $0x80, %al; dec %ecx; jnz 1b; int $0x80");
CODE(t_sse, "mov $20, %ecx; 1: addps %xmm0, %xmm1; dec %ecx; jnz 1b; int $0x80");
CODE(t_sse_load, "mov $20, %ecx; 1: movups (%rdi), %xmm1; dec %ecx; jnz 1b; int $0x80");
CODE(t_avx, "mov $20, %ecx; 1: vaddps %ymm0, %ymm1, %ymm1; dec %ecx; jnz 1b; int $0x80");
CODE(t_x87, "mov $20, %ecx; 1: fld1; fstp %st(0); dec %ecx; jnz 1b; int $0x80");
CODE(t_mmx, "mov $20, %ecx; 1: movq %mm0, %mm1; dec %ecx; jnz 1b; int $0x80");
CODE(t_fsbase, "mov $20, %ecx; 1: rdfsbase %rax; dec %ecx; jnz 1b; int $0x80");
CODE(t_smsw, "mov $20, %ecx; 1: smsw %eax; dec %ecx; jnz 1b; int $0x80");
CODE(t_nops, "mov $20, %ecx; 1: nop; dec %ecx; jnz 1b; int $0x80");
CODE(t_syscall, "mov $20, %esi; 1: syscall; 2: nop; dec %esi; jnz 1b; int $0x80");
CODE(t_sysret_at_once, "sysretq");
CODE(t_swap, "mov $20, %ecx; 1: lock cmpxchg %edx, (%rdi); dec %ecx; jnz 1b; int $0x80");
CODE(t_string, "cld; mov $20, %ecx; rep stosb; int $0x80");

static uint8_t data[4096] __attribute__((aligned(4096)));

static uint64_t read_register(enum Register reg) {
  uint64_t value = 0;
  switch (reg) {
    case kCr0:
      return read_cr0();
    case kCr4:
      return read_cr4();
    case kEfer:
      return read_msr(0xC0000080);
    case kXcr0:
      return 7;
    default:
      return value;
  }
}
static void write_register(enum Register reg, uint64_t value) {
  switch (reg) {
    case kCr0:
      write_cr0(value);
      break;
    case kCr4:
      write_cr4(value);
      break;
    case kEfer:
      write_msr(0xC0000080, value);
      break;
    case kXcr0:
      __asm__ volatile("xsetbv" : : "c"(0), "a"((uint32_t)value), "d"(0));
      break;
    case kDr7:
      __asm__ volatile("mov %0, %%dr7" : : "r"(value | 0x400));
      break;
    default:
      break;
  }
}

static bool has(unsigned leaf, unsigned reg, unsigned bit) {
  uint32_t r[4] = {leaf, 0, 0, 0};
  __asm__ volatile("cpuid" : "+a"(r[0]), "=b"(r[1]), "+c"(r[2]), "=d"(r[3]));
  return r[reg] >> bit & 1;
}

/// Rights of the page at RDI.
enum { kRo = kPresent | kUser, kRw = kPresent | kWritable | kUser, kSupervisor = kPresent | kWritable };

void test_toggles(void) {
  static const struct {
    const char* what;
    const uint8_t* code;
    bool user;
    enum Register reg;
    uint64_t bits;
    int clear, set;  // vectors
    uint16_t rights;
    uint8_t leaf, cpuid_reg, cpuid_bit;  // what it takes; leaf 0: nothing
  } kRows[] = {
      {"WP, store", t_store, false, kCr0, 1 << 16, kDone, kPf, kRo, 0, 0, 0},
      {"WP, add", t_add, false, kCr0, 1 << 16, kDone, kPf, kRo, 0, 0, 0},
      {"WP, locked", t_swap, false, kCr0, 1 << 16, kDone, kPf, kRo, 0, 0, 0},
      {"WP, string", t_string, false, kCr0, 1 << 16, kDone, kPf, kRo, 0, 0, 0},
      {"SMAP, load", t_load, false, kCr4, 1 << 21, kDone, kPf, kRw, 7, 1, 20},
      {"SMAP, store", t_store, false, kCr4, 1 << 21, kDone, kPf, kRw, 7, 1, 20},
      {"SMAP, SSE", t_sse_load, false, kCr4, 1 << 21, kDone, kPf, kRw, 7, 1, 20},
      {"SMAP, string", t_string, false, kCr4, 1 << 21, kDone, kPf, kRw, 7, 1, 20},
      {"AC under SMAP, load", t_load, false, kFlags, 1 << 18, kPf, kDone, kRw, 7, 1, 20},
      {"AC under SMAP, store", t_store, false, kFlags, 1 << 18, kPf, kDone, kRw, 7, 1, 20},
      {"AC, AM", t_misaligned, true, kFlags, 1 << 18, kDone, kAc, kRw, 0, 0, 0},
      {"AC, no AM", t_misaligned, true, kFlags, 1 << 18, kDone, kDone, kRw, 0, 0, 0},
      {"AM, with AC", t_misaligned, true, kCr0, 1 << 18, kDone, kAc, kRw, 0, 0, 0},
      {"TSD", t_rdtsc, true, kCr4, 1 << 2, kDone, kGp, kRw, 0, 0, 0},
      {"IOPL, CLI", t_cli, true, kFlags, 3 << 12, kGp, kDone, kRw, 0, 0, 0},
      {"IOPL, IN", t_in, true, kFlags, 3 << 12, kGp, kDone, kRw, 0, 0, 0},
      {"TS, SSE", t_sse, true, kCr0, 8, kDone, kNm, kRw, 0, 0, 0},
      {"TS, SSE load", t_sse_load, true, kCr0, 8, kDone, kNm, kRw, 0, 0, 0},
      {"TS, AVX", t_avx, true, kCr0, 8, kDone, kNm, kRw, 0, 0, 0},
      {"TS, x87", t_x87, true, kCr0, 8, kDone, kNm, kRw, 0, 0, 0},
      {"EM, x87", t_x87, true, kCr0, 4, kDone, kNm, kRw, 0, 0, 0},
      {"EM, MMX", t_mmx, true, kCr0, 4, kDone, kUd, kRw, 0, 0, 0},
      {"EM, SSE", t_sse, true, kCr0, 4, kDone, kUd, kRw, 0, 0, 0},
      {"OSFXSR", t_sse, true, kCr4, 1 << 9, kUd, kDone, kRw, 0, 0, 0},
      {"OSXSAVE, AVX", t_avx, true, kCr4, 1 << 18, kUd, kDone, kRw, 0, 0, 0},
      {"XCR0, AVX", t_avx, true, kXcr0, 4, kUd, kDone, kRw, 0, 0, 0},
      {"FSGSBASE", t_fsbase, true, kCr4, 1 << 16, kUd, kDone, kRw, 7, 1, 0},
      {"UMIP", t_smsw, true, kCr4, 1 << 11, kDone, kGp, kRw, 7, 2, 2},
      {"TF", t_nops, true, kFlags, 0x100, kDone, kDb, kRw, 0, 0, 0},
      {"TF, supervisor", t_nops, false, kFlags, 0x100, kDone, kDb, kRw, 0, 0, 0},
      {"data breakpoint", t_store, false, kDr7, 2 | 0xD0000, kDone, kDb, kRw, 0, 0, 0},
      {"data breakpoint, user", t_add, true, kDr7, 2 | 0xD0000, kDone, kDb, kRw, 0, 0, 0},
      {"instruction breakpoint", t_nops, true, kDr7, 2, kDone, kDb, kRw, 0, 0, 0},
      {"NXE", t_nops, false, kEfer, 1 << 11, kDone, kDone, kRw, 0, 0, 0},
      {"SCE", t_syscall, true, kEfer, 1, kUd, kDone, kRw, 0, 0, 0},
  };
  const uint64_t cr0 = read_cr0(), cr4 = read_cr4(), efer = read_msr(0xC0000080);
  write_msr(0xC0000081, (uint64_t)0x13 << 48 | (uint64_t)kCode64 << 32);
  write_msr(0xC0000082, (uint64_t)t_sysret_at_once);
  write_msr(0xC0000084, 0);
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    if (kRows[i].leaf && !has(kRows[i].leaf, kRows[i].cpuid_reg, kRows[i].cpuid_bit)) continue;
    if (under_tcg() && (kRows[i].set == kAc || kRows[i].code == t_avx)) continue;
    write_cr4(cr4 | 1 << 18);
    write_register(kXcr0, 7);
    if (kRows[i].reg == kFlags && kRows[i].bits == 1 << 18 && !kRows[i].user) write_cr4(read_cr4() | 1 << 21);
    const bool aligned = kRows[i].code == t_misaligned && kRows[i].set == kAc;
    if (aligned) write_cr0(cr0 | 1 << 18);
    if (kRows[i].code == t_nops)
      __asm__ volatile("mov %0, %%dr0" : : "r"((uint64_t)t_nops + 5 + (kRows[i].user ? kUserAlias : 0)));
    if (kRows[i].code == t_store || kRows[i].code == t_add) __asm__ volatile("mov %0, %%dr0" : : "r"(kUserPage));
    window[40] = (uint64_t)data | kRows[i].rights;
    flush(kUserPage);
    const uint64_t neutral = read_register(kRows[i].reg);
    for (unsigned round = 0; round < kOften; ++round) {
      const bool on = round % 2;
      struct Frame frame = kRows[i].user ? user_frame(kRows[i].code) : supervisor_frame(kRows[i].code);
      frame.rdi = kUserPage;
      if (kRows[i].reg == kFlags) {
        if (on) frame.rflags |= kRows[i].bits;
      } else {
        write_register(kRows[i].reg, on ? neutral | kRows[i].bits : neutral & ~kRows[i].bits);
        if (kRows[i].what[0] == 'A') frame.rflags |= 1 << 18;
      }
      const int vector = run(&frame).vector;
      write_register(kDr7, 0);
      write_cr0(cr0 | (aligned ? 1 << 18 : 0));
      if (kRows[i].reg != kFlags) write_register(kRows[i].reg, kRows[i].reg == kDr7 ? 0 : neutral);
      check(vector == (on ? kRows[i].set : kRows[i].clear), kRows[i].what, (uint64_t)round << 32 | (uint8_t)vector,
            on ? kRows[i].set : kRows[i].clear);
    }
    write_cr0(cr0);
    write_cr4(cr4);
    write_msr(0xC0000080, efer);
  }
}
