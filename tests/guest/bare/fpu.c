// Who may use the x87, MMX, SSE and AVX units (SDM vol. 3, 2.5, 13.1; vol. 2, each instruction's exceptions), and when
// errors of the x87 unit are raised (vol. 1, 8.7).
#include "bare.h"

enum { kMp = 2, kEm = 4, kTs = 8, kNe = 32, kOsfxsr = 1 << 9, kOsxsave = 1 << 18 };
enum { kUd = 6, kNm = 7, kMf = 16, kDone = 0x80 };

CODE(use_x87, "fnop; int $0x80");
CODE(use_fnstsw, "fnstsw %ax; int $0x80");
CODE(use_fninit, "fninit; int $0x80");
CODE(use_wait, "fwait; int $0x80");
CODE(use_mmx, "emms; int $0x80");
CODE(use_movq, "movq %mm0, %mm1; int $0x80");
CODE(use_sse, "xorps %xmm0, %xmm0; int $0x80");
CODE(use_sse2, "pxor %xmm0, %xmm0; int $0x80");
CODE(use_sse_load, "movups (%rdi), %xmm0; int $0x80");
CODE(use_ldmxcsr, "ldmxcsr 512(%rdi); int $0x80");
CODE(use_fxsave, "fxsave (%rdi); int $0x80");
CODE(use_fxrstor, "fxrstor (%rdi); int $0x80");
CODE(use_xsave, "xsave (%rdi); int $0x80");
CODE(use_xgetbv, "xgetbv; int $0x80");
CODE(use_avx, "vxorps %xmm1, %xmm1, %xmm1; int $0x80");
CODE(use_avx_load, "vmovups (%rdi), %ymm1; int $0x80");
CODE(use_nothing, "sfence; movnti %eax, (%rdi); clflush (%rdi); prefetcht0 (%rdi); int $0x80");
CODE(use_popcnt, "popcnt %eax, %ecx; crc32b %al, %ecx; int $0x80");

enum Unit { kX87, kWait, kMmx, kSse, kFxsave, kXsave, kXgetbv, kAvx, kNothing };

static uint8_t area[4096] __attribute__((aligned(64)));

static int expected(enum Unit unit, unsigned cr0, bool osfxsr, bool osxsave) {
  switch (unit) {
    case kX87:
      return cr0 & (kEm | kTs) ? kNm : kDone;
    case kWait:
      return (cr0 & (kMp | kTs)) == (kMp | kTs) ? kNm : kDone;
    case kMmx:
      return cr0 & kEm ? kUd : cr0 & kTs ? kNm : kDone;
    case kSse:
      return (cr0 & kEm) || !osfxsr ? kUd : cr0 & kTs ? kNm : kDone;
    case kFxsave:  // #NM for EM in old manuals, and in TCG
      return cr0 & kEm ? (under_tcg() ? kNm : kUd) : cr0 & kTs ? kNm : kDone;
    case kXsave:
    case kAvx:
      return !osxsave ? kUd : cr0 & kTs ? kNm : kDone;
    case kXgetbv:
      return !osxsave ? kUd : kDone;
    default:
      return kDone;
  }
}

static void availability(void) {
  static const struct {
    const uint8_t* code;
    enum Unit unit;
  } kRows[] = {{use_x87, kX87},         {use_fnstsw, kX87},    {use_fninit, kX87},    {use_wait, kWait},
               {use_mmx, kMmx},         {use_movq, kMmx},      {use_sse, kSse},       {use_sse2, kSse},
               {use_sse_load, kSse},    {use_ldmxcsr, kSse},   {use_fxsave, kFxsave}, {use_fxrstor, kFxsave},
               {use_xsave, kXsave},     {use_xgetbv, kXgetbv}, {use_avx, kAvx},       {use_avx_load, kAvx},
               {use_nothing, kNothing}, {use_popcnt, kNothing}};
  const uint64_t cr0 = read_cr0(), cr4 = read_cr4();
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    for (unsigned bits = 0; bits < 64; ++bits) {
      const unsigned changed = (bits & 1 ? kMp : 0) | (bits & 2 ? kEm : 0) | (bits & 4 ? kTs : 0);
      const bool osfxsr = bits & 8, osxsave = bits & 16, user = bits & 32;
      // TCG looks at EM and OSFXSR for AVX, at nothing for EMMS, and at TS before EM; not at TS for XSAVE.
      if (under_tcg() && (kRows[i].unit == kAvx || kRows[i].code == use_mmx || (bits & 6) == 6 ||
                          (kRows[i].unit == kXsave && (bits & 4))))
        continue;
      for (unsigned at = 0; at < 512; ++at) area[at] = 0;
      *(uint32_t*)(area + 24) = 0x1F80;
      *(uint32_t*)(area + 512) = 0x1F80;
      write_cr4((cr4 & ~(uint64_t)(kOsfxsr | kOsxsave)) | (osfxsr ? kOsfxsr : 0) | (osxsave ? kOsxsave : 0));
      if (osxsave) __asm__ volatile("xsetbv" : : "c"(0), "a"(7), "d"(0));
      write_cr0((cr0 & ~(uint64_t)(kMp | kEm | kTs)) | changed);
      struct Frame frame = user ? user_frame(kRows[i].code) : supervisor_frame(kRows[i].code);
      frame.rdi = (uint64_t)area + (user ? kUserAlias : 0);
      frame.rax = kRows[i].unit == kXsave;
      const int vector = run(&frame).vector;
      write_cr0(cr0);
      const int wanted = expected(kRows[i].unit, changed, osfxsr, osxsave);
      check(vector == wanted, "units", (uint64_t)vector << 32 | i << 16 | bits,
            (uint64_t)wanted << 32 | i << 16 | bits);
      if (vector != kDone) CHECK_EQUAL("units: RIP", last_frame.rip, frame.rip);
    }
  }
  // AVX wants its state enabled in XCR0.
  write_cr4(cr4 | kOsxsave);
  __asm__ volatile("xsetbv" : : "c"(0), "a"(3), "d"(0));
  struct Frame frame = supervisor_frame(use_avx);
  CHECK_EQUAL("units: AVX without its state", run(&frame).vector, kUd);
  __asm__ volatile("xsetbv" : : "c"(0), "a"(7), "d"(0));
  CHECK_EQUAL("units: AVX", run(&frame).vector, kDone);
  write_cr4(cr4);
}

CODE(error_then, "fninit; movw $0x37B, (%rdi); fldcw (%rdi); fld1; fldz; fdivrp; fnstsw %ax; mov %eax, %ebx; nop");
CODE(then_wait, "fwait; int $0x80");
CODE(then_load, "fld1; int $0x80");
CODE(then_store, "fstps (%rdi); int $0x80");
CODE(then_mmx, "movq %mm0, %mm1; int $0x80");
CODE(then_fnstsw, "fnstsw %ax; int $0x80");
CODE(then_fnstcw, "fnstcw (%rdi); int $0x80");
CODE(then_fnclex, "fnclex; fwait; int $0x80");
CODE(then_fninit, "fninit; fwait; int $0x80");
CODE(then_fnsave, "fnsave (%rdi); fwait; int $0x80");
CODE(then_fnstenv, "fnstenv (%rdi); fwait; int $0x80");  // masks all
CODE(then_sse, "xorps %xmm0, %xmm0; int $0x80");
CODE(then_fxsave, "fxsave (%rdi); int $0x80");
CODE(then_fxrstor, "fxsave (%rdi); fxrstor (%rdi); nop; fwait; int $0x80");
CODE(then_fldcw, "fldcw (%rdi); int $0x80");

/// An error waits for the next instruction of the unit that looks for it.
static void pending_errors(void) {
  static const struct {
    const char* what;
    const uint8_t* code;
    int vector;
    uint8_t offset;
  } kRows[] = {
      {"#MF: FWAIT", then_wait, kMf, 0},        {"#MF: FLD", then_load, kMf, 0},
      {"#MF: FST", then_store, kMf, 0},         {"#MF: MMX", then_mmx, kMf, 0},
      {"#MF: FLDCW", then_fldcw, kMf, 0},       {"#MF: FNSTSW", then_fnstsw, kDone, 0},
      {"#MF: FNSTCW", then_fnstcw, kDone, 0},   {"#MF: FNCLEX", then_fnclex, kDone, 0},
      {"#MF: FNINIT", then_fninit, kDone, 0},   {"#MF: FNSAVE", then_fnsave, kDone, 0},
      {"#MF: FNSTENV", then_fnstenv, kDone, 0}, {"#MF: SSE", then_sse, kDone, 0},
      {"#MF: FXSAVE", then_fxsave, kDone, 0},   {"#MF: FXRSTOR", then_fxrstor, kMf, 7},
  };
  // The error, and then a jump to each.
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    // TCG raises them with FWAIT only, and forgets that FNSTENV masks them.
    if (under_tcg() && (kRows[i].code == then_fnstenv || (kRows[i].vector == kMf && kRows[i].code != then_wait)))
      continue;
    static uint8_t both[64];
    for (unsigned at = 0; at < 64; ++at) both[at] = 0xCC;
    unsigned length = 0;
    while (error_then[length] != 0x90) {
      both[length] = error_then[length];
      ++length;
    }
    for (unsigned at = 0; at < 24; ++at) both[length + at] = kRows[i].code[at];
    struct Frame frame = supervisor_frame(both);
    frame.rdi = (uint64_t)area;
    const struct Fault fault = run(&frame);
    CHECK_EQUAL(kRows[i].what, fault.vector, kRows[i].vector);
    CHECK_EQUAL("#MF: status", last_frame.rbx & 0x8084, 0x8084);
    if (kRows[i].vector == kMf) CHECK_EQUAL("#MF: RIP", fault.rip, (uint64_t)both + length + kRows[i].offset);
    __asm__ volatile("fninit");
  }
  // Taking the mask off an error that has happened makes it wait.
  CODE(unmask, "fninit; fld1; fldz; fdivrp; movw $0x37B, (%rdi); fldcw (%rdi); fwait_here: fwait; int $0x80");
  extern const uint8_t fwait_here[];
  struct Frame frame = supervisor_frame(unmask);
  frame.rdi = (uint64_t)area;
  if (!under_tcg()) {
    CHECK_EQUAL("#MF: unmasked by FLDCW", run(&frame).vector, kMf);
    CHECK_EQUAL("#MF: unmasked by FLDCW, RIP", last_frame.rip, (uint64_t)fwait_here);
  }
  __asm__ volatile("fninit");
  // Another's use: with TS, #NM comes first.
  write_cr0(read_cr0() | kTs | kMp);
  CODE(late_error,
       "clts; fninit; movw $0x37B, (%rdi); fldcw (%rdi); fld1; fldz; fdivrp; mov %rax, %cr0; fwait; int $0x80");
  frame = supervisor_frame(late_error);
  frame.rdi = (uint64_t)area;
  frame.rax = read_cr0();
  CHECK_EQUAL("#MF: behind #NM", run(&frame).vector, kNm);
  write_cr0(read_cr0() & ~(uint64_t)kTs);
  __asm__ volatile("fninit");
}

/// CR0.NE clear: the error is IRQ 13, until port F0H says that it has been seen.
static volatile unsigned irq13;
static bool external_error(struct Frame* frame) {
  if (frame->vector != 0x3D) return false;
  ++irq13;
  out8(0xF0, 0);
  __asm__ volatile("fnclex");
  out8(0xA0, 0x20);
  out8(0x20, 0x20);
  return true;
}

static void external_errors(void) {
  static const uint8_t kMaster[] = {0x30, 4, 1, 0xFB}, kSlave[] = {0x38, 2, 1, 0xDF};
  out8(0x20, 0x11);
  out8(0xA0, 0x11);
  for (unsigned i = 0; i < 4; ++i) {
    out8(0x21, kMaster[i]);
    out8(0xA1, kSlave[i]);
  }
  *apic(0xF0) = 0x1FF;
  *apic(0x350) = 0x700;  // LINT0: ExtINT
  on_event = external_error;
  irq13 = 0;
  write_cr0(read_cr0() & ~(uint64_t)kNe);
  CODE(with_irq,
       "sti; fninit; movw $0x37B, (%rdi); fldcw (%rdi); fld1; fldz; fdivrp; fwait; mov $100, %ecx; 1: dec %ecx; jnz "
       "1b; cli; int $0x80");
  struct Frame frame = supervisor_frame(with_irq);
  frame.rdi = (uint64_t)area;
  CHECK_EQUAL("FERR: no exception", run(&frame).vector, kDone);
  CHECK_EQUAL("FERR: IRQ 13", irq13, 1);
  write_cr0(read_cr0() | kNe);
  on_event = 0;
  out8(0x21, 0xFF);
  out8(0xA1, 0xFF);
  *apic(0x350) = 0x10700;
  __asm__ volatile("fninit");
}

void test_fpu(void) {
  availability();
  pending_errors();
  if (!under_tcg()) external_errors();  // dies of it
}
