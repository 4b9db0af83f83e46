// Which of several faults is raised (SDM vol. 3, 6.9), what an instruction that faults leaves, and what users may not
// do.
#include "bare.h"

enum { kDb = 1, kUd = 6, kNm = 7, kGp = 13, kPf = 14, kNone = 0x80 };
#define kNowhere (kWindow + 0x1F0000)
#define kReadOnly (kWindow + 6 * 4096)

CODE(lock_hlt, "lock; hlt");
CODE(lock_nop, "lock; nop");
CODE(lock_mov, ".byte 0xF0; mov %eax, (%rdi)");
CODE(lock_to_register, ".byte 0xF0; add %eax, %eax");
CODE(mov_cr1, "mov %cr1, %rax");
CODE(misaligned_nowhere, "movaps 1(%rdi), %xmm0");
CODE(divide_nowhere, "xor %eax, %eax; divl (%rdi)");
CODE(cmpxchg16b_misaligned, "cmpxchg16b 8(%rdi)");
CODE(x87_nowhere, "flds (%rdi)");
CODE(pop_nowhere, "popq (%rdi)");
CODE(push_nowhere, "pushq (%rdi)");
CODE(call_nowhere, "mov %rdi, %rsp; call 1f; 1: nop");
CODE(exchange, "xchg %eax, (%rsi)");
CODE(exchange_differently, "mov $1, %eax; cmpxchg %ecx, (%rsi)");
CODE(set_bit, "btsl $0, (%rsi)");
CODE(test_bit, "btl $0, (%rsi); int $0x80");
CODE(move_both, "mov %rdi, %rsi; add $64, %rsi; movsb");
CODE(move_out, "mov %rsi, %rax; mov %rdi, %rdi; lodsb; mov %rax, %rsi; movsb");
CODE(enter_nowhere, "mov %rdi, %rsp; enter $16, $0");
CODE(leave_nowhere, "mov %rdi, %rbp; leave");

static void priorities(void) {
  static const struct {
    const char* what;
    const uint8_t* code;
    bool user, task_switched;
    int vector;
    uint64_t error, cr2;
  } kRows[] = {
      {"LOCK HLT", lock_hlt, true, false, kUd, 0, 0},
      {"LOCK NOP", lock_nop, false, false, kUd, 0, 0},
      {"LOCK MOV", lock_mov, false, false, kUd, 0, 0},
      {"LOCK with a register", lock_to_register, false, false, kUd, 0, 0},
      {"CR1", mov_cr1, false, false, kUd, 0, 0},
      {"MOVAPS, misaligned and absent", misaligned_nowhere, false, false, kGp, 0, 0},
      {"DIV by absent", divide_nowhere, false, false, kPf, 0, kNowhere},
      {"CMPXCHG16B, misaligned and absent", cmpxchg16b_misaligned, false, false, kGp, 0, 0},
      {"x87 with TS, absent", x87_nowhere, false, true, kNm, 0, 0},
      {"x87, absent", x87_nowhere, false, false, kPf, 0, kNowhere},
      {"POP to absent", pop_nowhere, false, false, kPf, 2, kNowhere},
      {"PUSH of absent", push_nowhere, false, false, kPf, 0, kNowhere},
      {"CALL with absent stack", call_nowhere, false, false, kPf, 2, kNowhere - 8},
      {"XCHG with read-only", exchange, false, false, kPf, 3, kReadOnly},
      {"CMPXCHG that differs with read-only", exchange_differently, false, false, kPf, 3, kReadOnly},
      {"BTS of read-only", set_bit, false, false, kPf, 3, kReadOnly},
      {"BT of read-only", test_bit, false, false, kNone, 0, 0},
      {"MOVS between absents", move_both, false, false, kPf, 0, kNowhere + 64},
      {"MOVS to absent", move_out, false, false, kPf, 2, kNowhere},
      {"ENTER with absent stack", enter_nowhere, false, false, kPf, 2, kNowhere - 8},
      {"LEAVE with absent stack", leave_nowhere, false, false, kPf, 0, kNowhere},
  };
  static uint8_t page[4096] __attribute__((aligned(4096)));
  window[6] = (uint64_t)page | kPresent;
  flush(kReadOnly);
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    // TCG looks at HLT's privilege first, and does not mind LOCK of MOV.
    if (under_tcg() && (kRows[i].code == lock_hlt || kRows[i].code == lock_mov)) continue;
    if (kRows[i].task_switched) write_cr0(read_cr0() | 8);
    struct Frame frame = kRows[i].user ? user_frame(kRows[i].code) : supervisor_frame(kRows[i].code);
    frame.rdi = kNowhere;
    frame.rsi = kReadOnly;
    // The page fault itself must find a stack.
    idt[kPf].low |= 2ULL << 32;
    static uint8_t spare[4096] __attribute__((aligned(16)));
    *(uint64_t*)(tss + 0x24 + 8) = (uint64_t)(spare + sizeof spare);
    const struct Fault fault = run(&frame);
    idt[kPf].low &= ~(7ULL << 32);
    write_cr0(read_cr0() & ~8ULL);
    check(fault.vector == kRows[i].vector && fault.error_code == kRows[i].error, kRows[i].what,
          (uint64_t)fault.vector << 32 | fault.error_code, (uint64_t)kRows[i].vector << 32 | kRows[i].error);
    if (kRows[i].vector == kPf) CHECK_EQUAL(kRows[i].what, fault.cr2, kRows[i].cr2);
    if (kRows[i].code == pop_nowhere || kRows[i].code == push_nowhere)
      CHECK_EQUAL("RSP after a fault", last_frame.rsp, frame.rsp);
    if (kRows[i].code == enter_nowhere) CHECK_EQUAL("RBP after ENTER's fault", last_frame.rbp, frame.rbp);
    if (kRows[i].code == leave_nowhere) CHECK_EQUAL("RSP after LEAVE's fault", last_frame.rsp, frame.rsp);
  }
}

CODE(p_hlt, "hlt");
CODE(p_cli, "cli");
CODE(p_sti, "sti");
CODE(p_in, "in $0x80, %al");
CODE(p_out, "out %eax, %dx");
CODE(p_outs, "outsb");
CODE(p_clts, "clts");
CODE(p_invd, "invd");
CODE(p_wbinvd, "wbinvd");
CODE(p_invlpg, "invlpg (%rdi)");
CODE(p_lgdt, "lgdt (%rdi)");
CODE(p_lidt, "lidt (%rdi)");
CODE(p_lldt, "lldt %ax");
CODE(p_ltr, "ltr %ax");
CODE(p_lmsw, "lmsw %ax");
CODE(p_rdmsr, "rdmsr");
CODE(p_wrmsr, "wrmsr");
CODE(p_rdpmc, "rdpmc");
CODE(p_rdtsc, "rdtsc");
CODE(p_rdtscp, "rdtscp");
CODE(p_mov_cr0, "mov %cr0, %rax");
CODE(p_to_cr2, "mov %rax, %cr2");
CODE(p_to_cr3, "mov %rax, %cr3");
CODE(p_cr8, "mov %cr8, %rax");
CODE(p_to_cr8, "mov %rax, %cr8");
CODE(p_dr0, "mov %dr0, %rax");
CODE(p_to_dr7, "mov %rax, %dr7");
CODE(p_swapgs, "swapgs");
CODE(p_sysret, "sysretq");
CODE(p_xsetbv, "xsetbv");
CODE(p_sgdt, "sgdt (%rdi)");
CODE(p_sidt, "sidt (%rdi)");
CODE(p_sldt, "sldt %eax");
CODE(p_str, "str %eax");
CODE(p_smsw, "smsw %eax");

static void privileges(void) {
  static const uint8_t* const kCodes[] = {
      p_hlt,    p_cli, p_sti,    p_in,     p_out,    p_outs,   p_clts,  p_invd,   p_wbinvd,  p_invlpg, p_lgdt,   p_lidt,
      p_lldt,   p_ltr, p_lmsw,   p_rdmsr,  p_wrmsr,  p_rdpmc,  p_rdtsc, p_rdtscp, p_mov_cr0, p_to_cr2, p_to_cr3, p_cr8,
      p_to_cr8, p_dr0, p_to_dr7, p_swapgs, p_sysret, p_xsetbv, p_sgdt,  p_sidt,   p_sldt,    p_str,    p_smsw};
  uint32_t a = 7, b, c = 0, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  const bool umip = c >> 2 & 1;
  const uint64_t cr4 = read_cr4(), efer = read_msr(0xC0000080);
  write_cr4(cr4 | 4 | 1 << 18 | (umip ? 1 << 11 : 0));  // TSD, OSXSAVE, UMIP
  write_msr(0xC0000080, efer | 1);
  for (unsigned i = 0; i < sizeof kCodes / sizeof *kCodes; ++i) {
    const bool is_umip = i >= 30;
    if (is_umip && !umip) continue;
    struct Frame frame = user_frame(kCodes[i]);
    frame.rdi = kUserAlias + 0x9000;
    const struct Fault fault = run(&frame);
    check(fault.vector == kGp && fault.error_code == 0, "privileged", (uint64_t)fault.vector << 32 | i, kGp);
    CHECK_EQUAL("privileged: RIP", fault.rip, frame.rip);
  }
  write_cr4(cr4);
  write_msr(0xC0000080, efer);
}

/// The I/O permission map: a bit for each port, all ones behind it.
static void port_permissions(void) {
  static struct { uint8_t tss[104], map[32], end; } __attribute__((packed, aligned(16))) wide;
  for (unsigned i = 0; i < sizeof wide.tss; ++i) wide.tss[i] = tss[i];
  *(uint16_t*)(wide.tss + 102) = 104;
  wide.end = 0xFF;
  const uint64_t base = (uint64_t)&wide, at = kFreeSelectors / 8;
  gdt[at] = (sizeof wide - 1) | (base & 0xFFFFFF) << 16 | 0x89ULL << 40 | (base >> 24) << 56;
  gdt[at + 1] = 0;
  __asm__ volatile("ltr %0" : : "r"((uint16_t)kFreeSelectors));
  CODE(in_byte, "in %dx, %al; int $0x80");
  CODE(in_word, "in %dx, %ax; int $0x80");
  CODE(in_long, "in %dx, %eax; int $0x80");
  wide.map[0x80 / 8] = 0x08;  // port 83h is forbidden
  static const struct {
    const uint8_t* code;
    uint16_t port;
    uint8_t iopl;
    int vector;
  } kRows[] = {{in_byte, 0x82, 0, kNone}, {in_byte, 0x83, 0, kGp},   {in_byte, 0x83, 3, kNone},
               {in_word, 0x82, 0, kGp},   {in_long, 0x80, 0, kGp},   {in_long, 0x84, 0, kNone},
               {in_word, 0xFF, 0, kGp},   {in_byte, 0xFF, 0, kNone}, {in_byte, 0x100, 0, kGp},
               {in_byte, 0xFFFF, 0, kGp}};
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    struct Frame frame = user_frame(kRows[i].code);
    frame.rdx = kRows[i].port;
    frame.rflags = 2 | kRows[i].iopl << 12;
    check(run(&frame).vector == kRows[i].vector, "I/O permission map", i, kRows[i].vector);
  }
  gdt[kTss / 8] &= ~(2ULL << 40);
  __asm__ volatile("ltr %0" : : "r"((uint16_t)kTss));
}

/// #AC: for users only, with CR0.AM and EFLAGS.AC.
static void alignment(void) {
  CODE(misaligned, "mov 1(%rdi), %eax; int $0x80");
  CODE(misaligned_push, "mov %rdi, %rsp; add $1, %rsp; push %rax; int $0x80");
  static uint8_t area[256] __attribute__((aligned(16)));
  for (unsigned bits = 0; bits < 8; ++bits) {
    write_cr0((read_cr0() & ~(1ULL << 18)) | (uint64_t)(bits & 1) << 18);
    const bool user = bits & 4;
    struct Frame frame = user ? user_frame(misaligned) : supervisor_frame(misaligned);
    frame.rflags |= (uint64_t)(bits & 2) << 17;
    frame.rdi = (uint64_t)area + 128 + (user ? kUserAlias : 0);
    // TCG knows no #AC.
    if (!under_tcg() || bits != 7) check(run(&frame).vector == (bits == 7 ? 17 : kNone), "#AC", bits, 7);
    frame.rip += misaligned_push - misaligned;
    if (!under_tcg() || bits != 7) check(run(&frame).vector == (bits == 7 ? 17 : kNone), "#AC: PUSH", bits, 7);
  }
  write_cr0(read_cr0() & ~(1ULL << 18));
}

void test_priorities(void) {
  priorities();
  privileges();
  port_permissions();
  alignment();
}
