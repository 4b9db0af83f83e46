// Between real mode, protected mode and long mode (SDM vol. 3, 9.8.5, 9.9 and 21.1.1), and what segments keep over it.
#include "real_mode.h"

enum { kGp = 13, kSs = 12, kRounds = 20 };
/// Free descriptors; real_mode.S has the last two.
enum { kCode16 = 0x1D8, kCode64 = 0x1E0, kSmall = 0x1E8 };

static uint32_t area[64];
static uint64_t tables[3][512] __attribute__((aligned(4096)));

// --- Limits that protected mode leaves behind ---------------------------------------------------------------------

CODE_16(u_load, "mov (%ebx), %eax; mov %fs:(%esi), %ecx; int $0x80");
CODE_16(u_reload, "mov $0x1234, %ax; mov %ax, %ds; sub $0x12340, %ebx; mov (%ebx), %eax; int $0x80");
CODE_16(u_pop, "push $0x1234; pop %ds; sub $0x12340, %ebx; mov (%ebx), %eax; int $0x80");
CODE_16(u_store, "mov %ecx, %es:(%edi); int $0x80");
CODE_16(u_string, "addr32 rep movsl; int $0x80");
CODE_16(u_frame, "mov %ebx, %ebp; mov (%ebp), %eax; push %ax; pop %ax; int $0x80");
CODE_16(u_short, "mov 0xFFE, %ax; mov $0x4100, %bx; mov %bx, %ds; mov 0xFFE, %ax; mov 0xFFF, %ax");
CODE_16(u_beyond, "mov 0x1000, %al");
CODE_16(u_short_stack, "mov $0x1FFF, %bp; mov (%bp), %ax");

static void limits(void) {
  for (unsigned i = 0; i < 16; ++i) area[i] = 0x1000 + i;
  // Real mode's own are 64 KiB, wherever these lie; flat ones reach everywhere, also after the register is loaded anew.
  const uint32_t at = (uint32_t)area;
  static const struct {
    const char* what;
    const uint8_t *code, *end;
  } kRows[] = {{"big real: loads", u_load, u_load_end},
               {"big real: DS loaded anew", u_reload, u_reload_end},
               {"big real: DS popped", u_pop, u_pop_end}};
  for (unsigned i = 0; i < 3; ++i) {
    struct Real r = real_registers_at_first();
    r.ds = r.fs = 0;
    r.ds_descriptor = r.fs_descriptor = kData;
    r.ebx = at;
    r.esi = at + 4;
    run_real(&r, kRows[i].code, kRows[i].end, kStart);
    CHECK_EQUAL(kRows[i].what, r.vector, kThrough);
    CHECK_EQUAL(kRows[i].what, r.eax, 0x1000);
    if (i == 0) CHECK_EQUAL("big real: FS", r.ecx, 0x1001);
    if (under_tcg()) continue;
    r = real_registers_at_first();
    r.ds = r.fs = 0;
    r.ebx = at;
    r.esi = at + 4;
    run_real(&r, kRows[i].code, kRows[i].end, kStart);
    CHECK_EQUAL(kRows[i].what, r.vector, kGp);
  }
  struct Real r = real_registers_at_first();
  r.es_descriptor = kData;
  r.ecx = 0x12345678;
  r.edi = at + 32 - kRealData * 16;
  run_real(&r, u_store, u_store_end, kStart);
  CHECK_EQUAL("big real: store", r.vector, kThrough);
  CHECK_EQUAL("big real: stored", area[8], 0x12345678);
  r = real_registers_at_first();
  r.ds_descriptor = r.es_descriptor = kData;
  r.ecx = 8;
  r.esi = at - kRealData * 16;
  r.edi = at + 64 - kRealData * 16;
  run_real(&r, u_string, u_string_end, kStart);
  CHECK_EQUAL("big real: REP MOVSD", r.vector, kThrough);
  CHECK_EQUAL("big real: REP MOVSD, ECX", r.ecx, 0);
  for (unsigned i = 0; i < 8; ++i) CHECK_EQUAL("big real: moved", area[16 + i], area[i]);
  // A long limit of SS is of use to EBP; pushes are by SP, for there is no D bit.
  r = real_registers_at_first();
  gdt[kSmall / 8] = segment(0, 0xFFFFF, 0x93, 8);
  r.ss_descriptor = kSmall;
  r.ebx = at - kRealStack * 16;
  r.esp = 0x12340000;
  run_real(&r, u_frame, u_frame_end, kStart);
  CHECK_EQUAL("big real: SS", r.vector, kThrough);
  CHECK_EQUAL("big real: by EBP", r.eax, 0x1000);
  CHECK_EQUAL("big real: SP", r.esp & 0xFFFF, 0x10000 - 6);

  // Short ones stay short.
  if (under_tcg()) return;
  gdt[kSmall / 8] = segment(0, 0xFFF, 0x93, 0);
  r = real_registers_at_first();
  r.ds_descriptor = kSmall;
  struct RealFrame frame = run_real(&r, u_short, u_short_end, kStart);
  CHECK_EQUAL("short limit", r.vector, kGp);
  CHECK_EQUAL("short limit, IP", frame.ip - kStart, u_short_end - u_short - 3);
  r = real_registers_at_first();
  r.ds_descriptor = kSmall;
  run_real(&r, u_beyond, u_beyond_end, kStart);
  CHECK_EQUAL("short limit: beyond", r.vector, kGp);
  // real_mode.S has a stack of its own below that.
  gdt[kSmall / 8] = segment(0, 0x1FFF, 0x93, 0);
  r = real_registers_at_first();
  r.ss_descriptor = kSmall;
  r.esp = 0x800;
  frame = run_real(&r, u_short_stack, u_short_stack_end, kStart);
  CHECK_EQUAL("short limit: stack", r.vector, kSs);
  CHECK_EQUAL("short limit: stack, IP", frame.ip, kStart + 3);
}

// --- PE on and off ------------------------------------------------------------------------------------------------

// Without a jump, CS and the others go on as they were.
CODE_16(p_here,
        "1: mov %cr0, %eax; or $1, %al; mov %eax, %cr0; add %cx, %dx; mov 0x10, %bx; push %bx; pop %si\n"
        "and $0xFE, %al; mov %eax, %cr0; add 0x10, %di; loop 1b; int $0x80");

// With far jumps: 16-bit protected mode, 32-bit, and back; EDX counts.
CODE_16(p_around,
        "1: mov %cr0, %eax; or $1, %al; mov %eax, %cr0; ljmp $0x1D8, $2f - p_around + 0x100\n"
        "2: mov $0x10, %ax; mov %ax, %ds; inc %edx; ljmpl $8, $p_flat\n"
        "3: mov $0x1F0, %ax; mov %ax, %ds; mov %ax, %ss; mov %cr0, %eax; and $0xFE, %al; mov %eax, %cr0\n"
        "ljmp $0x1000, $4f - p_around + 0x100\n"
        "4: mov $0x4000, %ax; mov %ax, %ds; mov $0x5000, %ax; mov %ax, %ss; incw 0x10; loop 1b; int $0x80\n"
        ".set p_back, 3b - p_around + 0x100");
__asm__(
    ".pushsection .text.code, \"ax\"\n"
    "p_flat: mov $0x10, %eax; mov %eax, %ss; add $0x10000, %edx; lea (%edx,%edx), %eax; sub %edx, %eax; mov %eax, "
    "%edx\n"
    "ljmp $0x1D8, $p_back\n"
    ".popsection");

// To long mode in one step, through 64-bit code, and by way of compatibility mode back. EBP: CR3.
CODE_16(p_long,
        "1: mov %cr4, %eax; or $0x20, %al; mov %eax, %cr4; mov %ebp, %cr3; push %cx; mov $0xC0000080, %ecx; rdmsr\n"
        "or $1, %ah; wrmsr; mov %cr0, %eax; or $0x80000001, %eax; mov %eax, %cr0; ljmpl $0x1E0, $p_64\n"
        "3: mov %cr0, %eax; and $0x7FFFFFFF, %eax; mov %eax, %cr0; mov $0xC0000080, %ecx; rdmsr; mov %eax, %esi\n"
        "and $0xFE, %ah; wrmsr; mov %cr4, %eax; and $0xDF, %al; mov %eax, %cr4\n"
        "mov $0x1F0, %ax; mov %ax, %ds; mov %cr0, %eax; and $0xFE, %al; mov %eax, %cr0\n"
        "ljmp $0x1000, $4f - p_long + 0x100\n"
        "4: mov $0x4000, %ax; mov %ax, %ds; incw 0x10; pop %cx; loop 1b; int $0x80\n"
        ".set p_long_back, 3b - p_long + 0x100");
__asm__(
    ".pushsection .text.code, \"ax\"\n.code64\n"
    "p_64: mov $0x0123456789ABCDEF, %r8; lea (%r8,%r8,2), %r9; xor %r10d, %r10d; mov $100, %r11d\n"
    "1: add %r9, %r10; dec %r11d; jnz 1b; mov %r10, p_result(%rip); mov $0xC0000080, %ecx; rdmsr; mov %eax, %edi\n"
    "ljmp *p_long_way(%rip)\n"
    ".popsection\n.pushsection .data\np_long_way: .long p_long_back; .word 0x1D8; .balign 8; p_result: .quad 0\n"
    ".popsection\n.code32");

static void switches(void) {
  gdt[kCode16 / 8] = segment(kRealCode * 16, 0xFFFF, 0x9B, 0);
  gdt[kCode64 / 8] = segment(0, 0xFFFFF, 0x9B, 0xA);
  struct Real r = real_registers_at_first();
  r.ecx = kRounds;
  *real_memory(kRealData, 0x10) = 7;
  *real_memory(kRealData, 0x11) = 0;
  struct RealFrame frame = run_real(&r, p_here, p_here_end, kStart);
  CHECK_EQUAL("PE without a jump", r.vector, kThrough);
  CHECK_EQUAL("PE without a jump: DX", r.edx, kRounds * (kRounds + 1) / 2);
  CHECK_EQUAL("PE without a jump: DS", r.ebx, 7);
  CHECK_EQUAL("PE without a jump: SS", r.esi, 7);
  CHECK_EQUAL("PE without a jump: DI", r.edi, 7 * kRounds);
  CHECK_EQUAL("PE without a jump: CS", frame.cs, kRealCode);

  *real_memory(kRealData, 0x10) = 0;
  r = real_registers_at_first();
  r.ecx = kRounds;
  frame = run_real(&r, p_around, p_around_end, kStart);
  CHECK_EQUAL("protected mode and back", r.vector, kThrough);
  CHECK_EQUAL("protected mode and back: EDX", r.edx, kRounds * 0x10001);
  CHECK_EQUAL("protected mode and back: rounds", real_word(kRealData, 0x10), kRounds);

  extern uint64_t p_result;
  tables[0][0] = (uint32_t)tables[1] | 3;
  tables[1][0] = (uint32_t)tables[2] | 3;
  for (unsigned i = 0; i < 64; ++i) tables[2][i] = i * 0x200000ULL | 0x83;
  *real_memory(kRealData, 0x10) = 0;
  r = real_registers_at_first();
  r.ecx = kRounds;
  r.ebp = (uint32_t)tables[0];
  frame = run_real(&r, p_long, p_long_end, kStart);
  CHECK_EQUAL("long mode and back", r.vector, kThrough);
  CHECK_EQUAL("long mode and back: rounds", real_word(kRealData, 0x10), kRounds);
  CHECK_EQUAL("long mode: R10", p_result, 300 * 0x0123456789ABCDEFULL);
  CHECK_EQUAL("long mode: EFER", r.edi & 0x500, 0x500);
  CHECK_EQUAL("long mode left: EFER", r.esi & 0x500, 0x100);
}

void test_mode_switches(void) {
  set_up_real_mode();
  limits();
  switches();
}
