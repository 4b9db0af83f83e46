// Interrupts in real mode: the 8254 and the real-time clock by way of the 8259s and the vector table; HLT, STI and
// IRET.
#include "real_mode.h"

enum { kTimer = 8, kClock = 0x70, kIf = 0x200 };
/// The 8259s: vectors 8 and 70H, as firmware has them.
enum { kMaster = 0x20, kSlave = 0xA0, kAllMasked = 0xFF };

static void set_masks(uint8_t master, uint8_t slave) {
  out8(kMaster + 1, master);
  out8(kSlave + 1, slave);
}

static void program_controllers(void) {
  static const uint8_t kWords[2][4] = {{0x11, kTimer, 4, 1}, {0x11, kClock, 2, 1}};
  for (unsigned chip = 0; chip < 2; ++chip) {
    const uint16_t port = chip == 0 ? kMaster : kSlave;
    out8(port, kWords[chip][0]);
    for (unsigned i = 1; i < 4; ++i) out8(port + 1, kWords[chip][i]);
  }
  set_masks(kAllMasked, kAllMasked);
}

/// Channel 0 of the 8254 in a mode, with a count of so many ticks.
static void start_timer(uint8_t mode, uint16_t count) {
  out8(0x43, (uint8_t)(0x30 | mode << 1));
  out8(0x40, (uint8_t)count);
  out8(0x40, (uint8_t)(count >> 8));
}

/// Until the 8259 has the timer's request.
static void wait_for_request(void) {
  do {
    out8(kMaster, 0x0A);
  } while ((in8(kMaster) & 1) == 0);
}

static uint8_t clock_register(uint8_t number) {
  out8(0x70, number);
  return in8(0x71);
}

/// A vector's entry in the table, to code under test.
static void set_vector(uint8_t vector, uint16_t offset) {
  *(volatile uint16_t*)low_memory(4U * vector) = offset;
  *(volatile uint16_t*)low_memory(4U * vector + 2) = kRealCode;
}

CODE_16(i_timer,
        "mov $3, %cx; 1: sti; hlt; cmp %cx, 0x10; jb 1b; cli; int $0x80\n"
        "i_timer_handler: push %ax; incw 0x10; mov $0x20, %al; out %al, $0x20; pop %ax; iret");
CODE_16(i_busy,
        "sti; 1: inc %ebx; cmpw $3, 0x10; jb 1b; cli; int $0x80\n"
        "i_busy_handler: push %ax; incw 0x10; mov $0x20, %al; out %al, $0x20; pop %ax; iret");
CODE_16(i_string,
        "sti; 1: xor %si, %si; mov $0x8000, %di; mov $0x7000, %cx; rep movsb; inc %dx; cmpw $20, 0xFFF0; jb 1b; cli; "
        "int $0x80\n"
        "i_string_handler: push %ax; push %ds; mov $0x4000, %ax; mov %ax, %ds; incw 0xFFF0; mov $0x20, %al; out %al, "
        "$0x20\n"
        "pop %ds; pop %ax; iret");
CODE_16(i_clock,
        "mov $4, %cx; 1: sti; hlt; cmp %cx, 0x10; jb 1b; cli; int $0x80\n"
        "i_clock_handler: push %ax; incw 0x10; mov $0x0C, %al; out %al, $0x70; in $0x71, %al; or %al, 0x12; mov $0x20, "
        "%al\n"
        "out %al, $0xA0; out %al, $0x20; pop %ax; iret");

CODE_16(w_sti, "sti; nop; nop; cli; int $0x80");
CODE_16(w_sti_cli, "sti; cli; nop; int $0x80");
CODE_16(w_sti_hlt, "sti; hlt; nop; int $0x80");
CODE_16(w_popf, "pushw $0x202; popf; nop; cli; int $0x80");
CODE_16(w_iret, "pushw $0x202; push %cs; pushw $1f - w_iret + 0x100; iret; int3; 1: nop; cli; int $0x80");
CODE_16(w_sti_int, "sti; int $0x55");

static void counted(void) {
  extern const uint8_t i_timer_handler[], i_busy_handler[], i_string_handler[], i_clock_handler[];
  struct Real r = real_registers_at_first();
  *(volatile uint16_t*)real_memory(kRealData, 0x10) = 0;
  set_vector(kTimer, (uint16_t)(kStart + (i_timer_handler - i_timer)));
  set_masks(0xFE, kAllMasked);
  start_timer(2, 2000);
  run_real(&r, i_timer, i_timer_end, kStart);
  CHECK_EQUAL("timer in HLT", r.vector, kThrough);
  CHECK_EQUAL("timer in HLT: times", real_word(kRealData, 0x10), 3);
  CHECK_EQUAL("timer in HLT: SP", r.esp, 0x8000 - 6);

  *(volatile uint16_t*)real_memory(kRealData, 0x10) = 0;
  set_vector(kTimer, (uint16_t)(kStart + (i_busy_handler - i_busy)));
  r = real_registers_at_first();
  run_real(&r, i_busy, i_busy_end, kStart);
  CHECK_EQUAL("timer in a loop", r.vector, kThrough);
  check(real_word(kRealData, 0x10) >= 3, "timer in a loop: times", real_word(kRealData, 0x10), 3);
  check(r.ebx != 0, "timer in a loop: it ran", r.ebx, 1);

  for (unsigned i = 0; i < 0x7000; ++i) *real_memory(kRealData, (uint16_t)i) = (uint8_t)(i * 5 + (i >> 8));
  *(volatile uint16_t*)real_memory(kRealData, 0xFFF0) = 0;
  set_vector(kTimer, (uint16_t)(kStart + (i_string_handler - i_string)));
  start_timer(2, 700);
  r = real_registers_at_first();
  run_real(&r, i_string, i_string_end, kStart);
  CHECK_EQUAL("timer in REP", r.vector, kThrough);
  CHECK_EQUAL("timer in REP: CX", r.ecx, 0);
  CHECK_EQUAL("timer in REP: SI", r.esi, 0x7000);
  bool same = true;
  for (unsigned i = 0; i < 0x7000; ++i)
    same = same && *real_memory(kRealData, (uint16_t)i) == *real_memory(kRealData, (uint16_t)(0x8000 + i));
  CHECK_EQUAL("timer in REP: all is there", same, true);
  set_masks(kAllMasked, kAllMasked);

  // The clock's periodic interrupt, 1024 times a second, by way of the second controller.
  *(volatile uint32_t*)real_memory(kRealData, 0x10) = 0;
  set_vector(kClock, (uint16_t)(kStart + (i_clock_handler - i_clock)));
  const uint8_t a = clock_register(0xA), b = clock_register(0xB);
  out8(0x70, 0xA);
  out8(0x71, (uint8_t)((a & 0xF0) | 6));
  out8(0x70, 0xB);
  out8(0x71, b | 0x40);
  clock_register(0xC);
  set_masks(0xFB, 0xFE);
  r = real_registers_at_first();
  run_real(&r, i_clock, i_clock_end, kStart);
  CHECK_EQUAL("clock", r.vector, kThrough);
  CHECK_EQUAL("clock: times", real_word(kRealData, 0x10), 4);
  CHECK_EQUAL("clock: periodic", real_word(kRealData, 0x12) & 0xC0, 0xC0);
  set_masks(kAllMasked, kAllMasked);
  out8(0x70, 0xA);
  out8(0x71, a);
  out8(0x70, 0xB);
  out8(0x71, b);
  clock_register(0xC);
}

/// An interrupt waits; where it comes in.
static void windows(void) {
  static const struct {
    const char* what;
    const uint8_t *code, *end;
    uint8_t vector, offset;
  } kRows[] = {
      {"real window: behind STI", w_sti, w_sti_end, kTimer, 2},
      {"real window: STI; CLI", w_sti_cli, w_sti_cli_end, kThrough, 5},
      {"real window: STI; HLT", w_sti_hlt, w_sti_hlt_end, kTimer, 2},
      {"real window: behind POPF", w_popf, w_popf_end, kTimer, 4},
      {"real window: behind IRET", w_iret, w_iret_end, kTimer, 9},
      {"real window: STI; INT", w_sti_int, w_sti_int_end, 0x55, 3},
  };
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    set_up_real_mode();
    start_timer(0, 100);
    set_masks(0xFE, kAllMasked);
    wait_for_request();
    struct Real r = real_registers_at_first();
    const struct RealFrame frame = run_real(&r, kRows[i].code, kRows[i].end, kStart);
    set_masks(kAllMasked, kAllMasked);
    CHECK_EQUAL(kRows[i].what, r.vector, kRows[i].vector);
    CHECK_EQUAL(kRows[i].what, frame.ip - kStart, kRows[i].offset);
    CHECK_EQUAL(kRows[i].what, frame.cs, kRealCode);
    if (kRows[i].vector != kThrough) CHECK_EQUAL(kRows[i].what, frame.flags & kIf, kIf);
    CHECK_EQUAL(kRows[i].what, r.flags & kIf, 0);
    if (kRows[i].vector == kTimer) out8(kMaster, 0x20);
  }
}

CODE_16(n_self, "mov $0xFEE00310, %ebx; movl $0, (%ebx); movl $0x4400, -0x10(%ebx); 1: jmp 1b");

/// NMIs come without IF, through vector 2.
static void non_maskable(void) {
  set_up_real_mode();
  struct Real r = real_registers_at_first();
  r.ds = 0;
  r.ds_descriptor = kData;
  const struct RealFrame frame = run_real(&r, n_self, n_self_end, kStart);
  CHECK_EQUAL("NMI", r.vector, 2);
  CHECK_EQUAL("NMI: CS", frame.cs, kRealCode);
  CHECK_EQUAL("NMI: IP", frame.ip, kStart + (n_self_end - n_self) - 2);
  CHECK_EQUAL("NMI: without IF", frame.flags & kIf, 0);
}

void test_real_interrupts(void) {
  set_up_real_mode();
  program_controllers();
  windows();
  counted();
  non_maskable();
}
