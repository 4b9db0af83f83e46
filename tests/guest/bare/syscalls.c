// SYSCALL, SYSRET, SYSENTER, SYSEXIT and SWAPGS at their edges (SDM vol. 2; APM vol. 3).
#include "bare.h"

enum {
  kEfer = 0xC0000080,
  kStar = 0xC0000081,
  kLstar,
  kCstar,
  kFmask,
  kKernelGsBase = 0xC0000102,
  kGsBase = 0xC0000101
};
enum { kSysenterCs = 0x174, kSysenterEsp, kSysenterEip, kDone = 0x80, kTf = 0x100 };
enum { kCompat = kFreeSelectors };  // user code of 32 bits

CODE(do_syscall, "syscall; int $0x80");
CODE(do_sysret, "sysretq");
CODE(do_sysret_32, "sysretl");
CODE(do_sysenter, "sysenter; int $0x80");
CODE(do_sysexit, "sysexitq");
CODE(do_swapgs, "swapgs; int $0x80");
CODE(entry, "int $0x80; nop");
CODE(compat_entry, "nop; int $0x80");

static bool is_amd(void) {
  uint32_t a = 0, b, c, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
  return b == 0x68747541;
}

static void calls(void) {
  write_msr(kFmask, 0x600);  // IF, DF
  struct Frame frame = user_frame(do_syscall);
  frame.rflags = 0x10E02 | 0x8D5;  // RF, IF, DF, OF and all of the others
  frame.rflags &= ~kTf;
  CHECK_EQUAL("SYSCALL", run(&frame).vector, kDone);
  CHECK_EQUAL("SYSCALL: from where", last_frame.rip, (uint64_t)entry + 2);
  CHECK_EQUAL("SYSCALL: RCX", last_frame.rcx, frame.rip + 2);
  CHECK_EQUAL("SYSCALL: R11", last_frame.r11, frame.rflags & ~0x10000ULL);
  const uint64_t status = under_tcg() ? 0xCD5 : 0;  // is cleared by TCG
  CHECK_EQUAL("SYSCALL: flags", last_frame.rflags, frame.rflags & ~0x10600ULL & ~status);
  CHECK_EQUAL("SYSCALL: CS", last_frame.cs, kCode64);
  CHECK_EQUAL("SYSCALL: SS", last_frame.ss, kData);
  CHECK_EQUAL("SYSCALL: RSP", last_frame.rsp, frame.rsp);
  write_msr(kFmask, 0);
  CHECK_EQUAL("SYSCALL: no mask", run(&frame).vector, kDone);
  CHECK_EQUAL("SYSCALL: no mask, flags", last_frame.rflags, frame.rflags & ~0x10000ULL & ~status);

  // From level 0 as well.
  frame = supervisor_frame(do_syscall);
  CHECK_EQUAL("SYSCALL: level 0", run(&frame).vector, kDone);
  CHECK_EQUAL("SYSCALL: level 0, RIP", last_frame.rip, (uint64_t)entry + 2);

  frame = user_frame(do_syscall);
  frame.cs = kCompat | 3;
  CHECK_EQUAL("SYSCALL: compatibility mode", run(&frame).vector, is_amd() ? kDone : 6);
  if (is_amd()) {
    CHECK_EQUAL("SYSCALL: CSTAR", last_frame.rip, (uint64_t)compat_entry + 3);
    CHECK_EQUAL("SYSCALL: CSTAR, CS", last_frame.cs, kCode64);
    CHECK_EQUAL("SYSCALL: CSTAR, RCX", last_frame.rcx, (uint32_t)frame.rip + 2);
  }
  write_msr(kEfer, read_msr(kEfer) & ~1ULL);
  frame = user_frame(do_syscall);
  CHECK_EQUAL("SYSCALL: without SCE", run(&frame).vector, 6);
  frame = supervisor_frame(do_sysret);
  CHECK_EQUAL("SYSRET: without SCE", run(&frame).vector, 6);
  write_msr(kEfer, read_msr(kEfer) | 1);
}

static void returns(void) {
  struct Frame frame = supervisor_frame(do_sysret);
  frame.rcx = (uint64_t)entry + kUserAlias;
  frame.r11 = 0x3F7FD7 & ~(uint64_t)(kTf | 1 << 14 | 3 << 19);  // RF and VM are set, NT is not
  frame.rsp = kUserAlias + 0x9000;
  CHECK_EQUAL("SYSRET", run(&frame).vector, kDone);
  CHECK_EQUAL("SYSRET: RIP", last_frame.rip, frame.rcx + 2);
  CHECK_EQUAL("SYSRET: CS", last_frame.cs, kUserCode64);
  CHECK_EQUAL("SYSRET: SS", last_frame.ss, kUserData);
  CHECK_EQUAL("SYSRET: RSP", last_frame.rsp, frame.rsp);
  CHECK_EQUAL("SYSRET: flags", last_frame.rflags & ~(under_tcg() ? 0x30000ULL : 0), (frame.r11 & ~0x30000ULL) | 2);
  frame.rip = (uint64_t)do_sysret_32;
  frame.rcx |= 0x123ULL << 32;
  frame.r11 = 2;
  CHECK_EQUAL("SYSRET: 32 bits", run(&frame).vector, kDone);
  CHECK_EQUAL("SYSRET: 32 bits, CS", last_frame.cs, 0x13);
  CHECK_EQUAL("SYSRET: 32 bits, RIP", last_frame.rip, (uint32_t)frame.rcx + 2);
  frame.rip = (uint64_t)do_sysret;
  frame.rcx = 1ULL << 47;
  CHECK_EQUAL("SYSRET: not canonical", run(&frame).vector, 13);
  // AMD's fault at their first fetch, as users; TCG knows neither kind.
  if (!under_tcg()) CHECK_EQUAL("SYSRET: not canonical, level", last_frame.cs & 3, is_amd() ? 3 : 0);
  frame = user_frame(do_sysret);
  CHECK_EQUAL("SYSRET: users", run(&frame).vector, 13);
}

/// TF counts as it is after SYSCALL and SYSRET.
static void steps(void) {
  write_msr(kFmask, 0);
  struct Frame frame = user_frame(do_syscall);
  frame.rflags |= kTf;
  CHECK_EQUAL("SYSCALL: TF", run(&frame).vector, 1);
  CHECK_EQUAL("SYSCALL: TF, RIP", last_frame.rip, (uint64_t)entry);
  CHECK_EQUAL("SYSCALL: TF, R11", last_frame.r11 & kTf, kTf);
  write_msr(kFmask, kTf);
  CHECK_EQUAL("SYSCALL: TF masked", run(&frame).vector, kDone);
  frame = supervisor_frame(do_sysret);
  frame.rcx = (uint64_t)compat_entry + kUserAlias;
  frame.r11 = kTf | 2;
  CHECK_EQUAL("SYSRET: TF", run(&frame).vector, 1);
  CHECK_EQUAL("SYSRET: TF, RIP", last_frame.rip, frame.rcx);
  CHECK_EQUAL("SYSRET: TF, CS", last_frame.cs, kUserCode64);
}

static void sysenter(void) {
  write_msr(kSysenterCs, kCode64);
  write_msr(kSysenterEsp, (uint64_t)window);  // any memory that is not used
  write_msr(kSysenterEip, (uint64_t)entry);
  struct Frame frame = user_frame(do_sysenter);
  CHECK_EQUAL("SYSENTER: long mode", run(&frame).vector, is_amd() ? 6 : kDone);
  frame = supervisor_frame(do_sysexit);
  frame.rcx = kUserAlias + 0x9000;
  frame.rdx = (uint64_t)entry + kUserAlias;
  CHECK_EQUAL("SYSEXIT: long mode", run(&frame).vector, is_amd() ? 6 : kDone);
  write_msr(kSysenterCs, 0);
  if (!is_amd()) CHECK_EQUAL("SYSEXIT: null", run(&frame).vector, 13);
}

static void write_lstar(void* value) {
  write_msr(kLstar, (uint64_t)value);
}
static void write_fmask(void* value) {
  write_msr(kFmask, (uint64_t)value);
}

static void swap(void) {
  write_msr(kGsBase, 0x1000);
  write_msr(kKernelGsBase, 0xFFFF800000000000);
  struct Frame frame = supervisor_frame(do_swapgs);
  CHECK_EQUAL("SWAPGS", run(&frame).vector, kDone);
  CHECK_EQUAL("SWAPGS: GS", read_msr(kGsBase), 0xFFFF800000000000);
  CHECK_EQUAL("SWAPGS: the other", read_msr(kKernelGsBase), 0x1000);
  frame = user_frame(do_swapgs);
  CHECK_EQUAL("SWAPGS: users", run(&frame).vector, 13);
  frame.cs = kCompat | 3;
  CHECK_EQUAL("SWAPGS: compatibility mode", run(&frame).vector, 6);
  if (under_tcg()) return;
  CHECK_EQUAL("LSTAR: not canonical", attempt(write_lstar, (void*)(1ULL << 47)).vector, 13);
  CHECK_EQUAL("FMASK: upper half", attempt(write_fmask, (void*)(1ULL << 32)).vector, 13);
}

void test_syscalls(void) {
  gdt[kCompat / 8] = 0x00CFFA000000FFFF;
  write_msr(kEfer, read_msr(kEfer) | 1);
  write_msr(kStar, (uint64_t)0x13 << 48 | (uint64_t)kCode64 << 32);
  write_msr(kLstar, (uint64_t)entry);
  write_msr(kCstar, (uint64_t)compat_entry);
  calls();
  returns();
  steps();
  sysenter();
  swap();
}
