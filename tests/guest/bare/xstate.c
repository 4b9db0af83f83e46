// XSAVE and its kin: XCR0, layouts, initial states, headers that are refused (SDM vol. 1, ch. 13).
#include "bare.h"

enum { kX87 = 1, kSse = 2, kAvx = 4, kOsxsave = 1 << 18, kDone = 0x80 };
enum { kMxcsr = 24, kXmm = 160, kHeader = 512, kAvxAt = 576, kSize = 832 };
#define kCompacted (1ULL << 63)

static uint8_t area[1024] __attribute__((aligned(64)));

CODE(set_xcr, "xsetbv; int $0x80");
CODE(get_xcr, "xgetbv; int $0x80");
CODE(do_xsave, "xsave64 (%rdi); int $0x80");
CODE(do_xsaveopt, "xsaveopt64 (%rdi); int $0x80");
CODE(do_xsavec, "xsavec64 (%rdi); int $0x80");
CODE(do_xrstor, "xrstor64 (%rdi); int $0x80");

static struct Fault with(const uint8_t* code, uint64_t mask, uint64_t address) {
  struct Frame frame = supervisor_frame(code);
  frame.rax = (uint32_t)mask;
  frame.rdx = mask >> 32;
  frame.rdi = address;
  return run(&frame);
}

static uint64_t at(unsigned offset) {
  return *(volatile uint64_t*)(area + offset);
}

static void fill(void) {
  for (unsigned i = 0; i < sizeof area; ++i) area[i] = i >= kHeader && i < kAvxAt ? 0 : 0xCC;
}

/// Registers with numbers in them: one x87 register, XMM5, the upper half of YMM5.
static void load_registers(void) {
  static const uint64_t kValue[4] = {0x1111, 0x2222, 0x3333, 0x4444};
  __asm__ volatile("fninit; fld1; vzeroall; vmovdqu %0, %%ymm5" : : "m"(kValue));
}

static void control(void) {
  struct Frame frame = supervisor_frame(set_xcr);
  static const struct {
    uint64_t index, value;
    int vector;
  } kRows[] = {{0, 7, kDone}, {0, 3, kDone}, {0, 1, kDone},           {0, 0, 13},          {0, 2, 13},   {0, 6, 13},
               {0, 5, 13},    {1, 7, 13},    {0, 7 | 1ULL << 62, 13}, {0, 7 | 1 << 8, 13}, {0, 7, kDone}};
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    frame.rcx = kRows[i].index;
    frame.rax = (uint32_t)kRows[i].value;
    frame.rdx = kRows[i].value >> 32;
    // TCG knows bit 8's state or not, as it likes.
    check(run(&frame).vector == kRows[i].vector, "XSETBV", i, kRows[i].vector);
    if (kRows[i].vector != kDone) continue;
    uint32_t a = 0xD, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    CHECK_EQUAL("CPUID: size of the area", b, kRows[i].value & kAvx ? kSize : kAvxAt);
  }
  uint32_t a = 0xD, b, c = 2, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  CHECK_EQUAL("CPUID: size of AVX's part", a, 256);
  CHECK_EQUAL("CPUID: where it is", b, kAvxAt);
  frame = supervisor_frame(get_xcr);
  frame.rcx = 2;
  if (!under_tcg()) CHECK_EQUAL("XGETBV: 2", run(&frame).vector, 13);
  frame.rcx = 0;
  CHECK_EQUAL("XGETBV", run(&frame).vector, kDone);
  CHECK_EQUAL("XGETBV: XCR0", last_frame.rax, 7);
  // CPUID says whether CR4.OSXSAVE is set.
  for (unsigned on = 0; on < 2; ++on) {
    write_cr4(on ? read_cr4() | kOsxsave : read_cr4() & ~(uint64_t)kOsxsave);
    a = 1;
    c = 0;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    CHECK_EQUAL("CPUID: OSXSAVE", c >> 27 & 1, on);
  }
}

static void layout(void) {
  for (unsigned mask = 0; mask < 8; ++mask) {
    fill();
    *(uint64_t*)(area + kHeader) = 0x100;  // XSTATE_BV: bits that were not asked for stay
    *(uint64_t*)(area + kHeader + 16) = 0x1234;
    load_registers();
    CHECK_EQUAL("XSAVE", with(do_xsave, mask, (uint64_t)area).vector, kDone);
    const bool x87 = mask & kX87, sse = mask & kSse, avx = mask & kAvx;
    const uint64_t kept = 0xCCCCCCCCCCCCCCCC;
    CHECK_EQUAL("XSAVE: FCW", at(0) & 0xFFFF, x87 ? 0x37F : 0xCCCC);
    CHECK_EQUAL("XSAVE: FTW", at(0) >> 32 & 0xFF, x87 ? 0x80 : 0xCC);
    CHECK_EQUAL("XSAVE: ST0", at(32), x87 ? 1ULL << 63 : kept);
    CHECK_EQUAL("XSAVE: ST0's exponent", at(40) & 0xFFFF, x87 ? 0x3FFF : 0xCCCC);
    // TCG does not write it for AVX alone.
    if (!under_tcg() || sse || !avx)
      CHECK_EQUAL("XSAVE: MXCSR", (uint32_t)at(kMxcsr), sse || avx ? 0x1F80 : 0xCCCCCCCC);
    CHECK_EQUAL("XSAVE: XMM5", at(kXmm + 80), sse ? 0x1111 : kept);
    CHECK_EQUAL("XSAVE: XMM5, above", at(kXmm + 88), sse ? 0x2222 : kept);
    CHECK_EQUAL("XSAVE: XMM15", at(kXmm + 248), sse ? 0 : kept);
    CHECK_EQUAL("XSAVE: between", at(480), kept);
    CHECK_EQUAL("XSAVE: YMM5", at(kAvxAt + 80), avx ? 0x3333 : kept);
    CHECK_EQUAL("XSAVE: YMM5, above", at(kAvxAt + 88), avx ? 0x4444 : kept);
    CHECK_EQUAL("XSAVE: beyond", at(kSize), kept);
    CHECK_EQUAL("XSAVE: XSTATE_BV", at(kHeader), mask | 0x100);
    CHECK_EQUAL("XSAVE: XCOMP_BV", at(kHeader + 8), 0);
    CHECK_EQUAL("XSAVE: header", at(kHeader + 16), 0x1234);
  }
}

/// What is in its initial state is not written by XSAVEOPT and XSAVEC. TCG takes nothing to be.
static void initial_states(bool xsaveopt, bool xsavec) {
  const uint64_t kept = 0xCCCCCCCCCCCCCCCC;
  for (unsigned compact = 0; compact < 2; ++compact) {
    if (compact ? !xsavec : !xsaveopt) continue;
    const uint8_t* code = compact ? do_xsavec : do_xsaveopt;
    fill();
    __asm__ volatile("fninit; fldz; vzeroall; pcmpeqd %xmm3, %xmm3; fstp %st(0); fninit");
    CHECK_EQUAL("XSAVEC", with(code, 7, (uint64_t)area).vector, kDone);
    // Whether an emptied x87 register that once held zero is initial, processors decide.
    CHECK_EQUAL("XSAVEC: in use", at(kHeader) & (kSse | kAvx), kSse);
    CHECK_EQUAL("XSAVEC: XCOMP_BV", at(kHeader + 8), compact ? kCompacted | 7 : 0);
    CHECK_EQUAL("XSAVEC: XMM3", at(kXmm + 48), ~0ULL);
    CHECK_EQUAL("XSAVEC: YMM3", at(kAvxAt + 48), kept);
    fill();
    __asm__ volatile("vzeroall");
    CHECK_EQUAL("XSAVEC", with(code, 6, (uint64_t)area).vector, kDone);
    CHECK_EQUAL("XSAVEC: nothing in use", at(kHeader), 0);
    CHECK_EQUAL("XSAVEC: XMM3, unused", at(kXmm + 48), kept);
    CHECK_EQUAL("XSAVEC: MXCSR", (uint32_t)at(kMxcsr), compact ? 0xCCCCCCCC : 0x1F80);
    // MXCSR alone makes SSE's state one that XSAVEC writes.
    fill();
    static const uint32_t kOther = 0x3F80, kUsual = 0x1F80;
    __asm__ volatile("ldmxcsr %0" : : "m"(kOther));
    CHECK_EQUAL("XSAVEC", with(code, 6, (uint64_t)area).vector, kDone);
    __asm__ volatile("ldmxcsr %0" : : "m"(kUsual));
    if (!under_tcg()) CHECK_EQUAL("XSAVEC: MXCSR in use", at(kHeader), compact ? kSse : 0);
    CHECK_EQUAL("XSAVEC: other MXCSR", (uint32_t)at(kMxcsr), kOther);
  }
}

static void read_back(uint64_t out[5]) {
  static uint8_t image[kSize] __attribute__((aligned(64)));
  with(do_xsave, 7, (uint64_t)image);
  out[0] = *(uint64_t*)(image + 32);
  out[1] = *(uint64_t*)(image + kXmm + 80);
  out[2] = *(uint64_t*)(image + kAvxAt + 80);
  out[3] = *(uint32_t*)(image + kMxcsr);
  out[4] = *(uint16_t*)image;
}

static void restores(bool xsavec) {
  for (unsigned mask = 0; mask < 8; ++mask) {
    for (unsigned present = 0; present < 8; ++present) {
      for (unsigned compact = 0; compact <= (unsigned)xsavec; ++compact) {
        load_registers();
        fill();
        with(do_xsave, 7, (uint64_t)area);
        *(uint64_t*)(area + 32) = 0x5555;
        *(uint64_t*)(area + kXmm + 80) = 0x6666;
        *(uint64_t*)(area + kAvxAt + 80) = 0x7777;
        *(uint32_t*)(area + kMxcsr) = 0x5F80;
        *(uint64_t*)(area + kHeader) = present;
        *(uint64_t*)(area + kHeader + 8) = compact ? kCompacted | 7 : 0;
        load_registers();
        CHECK_EQUAL("XRSTOR", with(do_xrstor, mask, (uint64_t)area).vector, kDone);
        uint64_t now[5];
        read_back(now);
        const unsigned loaded = mask & present, cleared = mask & ~present, id = mask << 8 | present << 4 | compact;
        const uint64_t st = loaded & kX87 ? 0x5555 : cleared & kX87 ? 0 : 1ULL << 63;
        const uint64_t xmm = loaded & kSse ? 0x6666 : cleared & kSse ? 0 : 0x1111;
        const uint64_t ymm = loaded & kAvx ? 0x7777 : cleared & kAvx ? 0 : 0x3333;
        uint64_t mxcsr = mask & (kSse | kAvx) ? 0x5F80 : 0x1F80;
        if (compact) mxcsr = loaded & kSse ? 0x5F80 : 0x1F80;
        check(now[0] == st, "XRSTOR: ST0", now[0], id);
        check(now[1] == xmm, "XRSTOR: XMM5", now[1], id);
        check(now[2] == ymm, "XRSTOR: YMM5", now[2], id);
        // TCG sets MXCSR to its initial value where XSTATE_BV lacks it, and so refuses no bad one.
        if (!under_tcg()) check(now[3] == mxcsr, "XRSTOR: MXCSR", now[3], id);
        static const uint32_t kUsual = 0x1F80;
        __asm__ volatile("ldmxcsr %0" : : "m"(kUsual));
      }
    }
  }
}

static void refusals(bool xsavec) {
  static const struct {
    const char* what;
    unsigned offset;
    uint64_t value;
    bool compact, refused;
  } kRows[] = {
      {"XRSTOR: fine", kHeader, 7, false, true},
      {"XRSTOR: a state that XCR0 lacks", kHeader, 7 | 1 << 9, false, false},
      {"XRSTOR: bit 63 of XSTATE_BV", kHeader, 1ULL << 63, false, false},
      {"XRSTOR: XCOMP_BV without bit 63", kHeader + 8, 1, false, false},
      {"XRSTOR: bytes 16 to 23", kHeader + 16, 1, false, false},
      {"XRSTOR: bytes 24 on", kHeader + 24, 1, false, true},
      {"XRSTOR: MXCSR", kMxcsr, 0xFFFF0000, false, false},
      {"XRSTOR: compacted", kHeader + 8, kCompacted | 7, true, true},
      {"XRSTOR: compacted without a state that is there", kHeader + 8, kCompacted | 3, true, false},
      {"XRSTOR: compacted with a state that XCR0 lacks", kHeader + 8, kCompacted | 7 | 1 << 9, true, false},
      {"XRSTOR: compacted, bytes 16 on", kHeader + 16, 1, true, false},
      {"XRSTOR: compacted, bytes 56 on", kHeader + 56, 1, true, false},
  };
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    if ((kRows[i].compact && !xsavec) || (under_tcg() && kRows[i].offset == kMxcsr)) continue;
    fill();
    load_registers();
    with(do_xsave, 7, (uint64_t)area);
    *(uint64_t*)(area + kHeader + 8) = kRows[i].compact ? kCompacted | 7 : 0;
    *(uint64_t*)(area + kRows[i].offset) = kRows[i].value;
    const struct Fault fault = with(do_xrstor, 7, (uint64_t)area);
    check(fault.vector == (kRows[i].refused ? kDone : 13), kRows[i].what, fault.vector, kRows[i].refused ? kDone : 13);
    uint64_t now[5];
    read_back(now);
    CHECK_EQUAL("XRSTOR: nothing has changed", now[1], 0x1111);
  }
  static const uint8_t* const kCodes[] = {do_xsave, do_xrstor, do_xsaveopt, do_xsavec};
  fill();
  with(do_xsave, 7, (uint64_t)area);
  for (unsigned i = 0; i < 3u + xsavec; ++i) {
    CHECK_EQUAL("XSAVE: misaligned", with(kCodes[i], 7, (uint64_t)area + 8).vector, 13);
    write_cr4(read_cr4() & ~(uint64_t)kOsxsave);
    CHECK_EQUAL("XSAVE: without OSXSAVE", with(kCodes[i], 7, (uint64_t)area).vector, 6);
    write_cr4(read_cr4() | kOsxsave);
    // The end of the area is in a page that is not there.
    static uint8_t page[4096] __attribute__((aligned(4096)));
    window[8] = (uint64_t)page | kPresent | kWritable;
    window[9] = 0;
    flush(kWindow + 8 * 4096);
    flush(kWindow + 9 * 4096);
    for (unsigned at = 0; at < 576; ++at) page[4096 - 576 + at] = at == kHeader ? 7 : 0;
    load_registers();
    const struct Fault fault = with(kCodes[i], 7, kWindow + 9 * 4096 - 576);
    CHECK_EQUAL("XSAVE: into an absent page", fault.vector, 14);
    CHECK_EQUAL("XSAVE: into an absent page, CR2", fault.cr2, kWindow + 9 * 4096);
    uint64_t now[5];
    read_back(now);
    if (!under_tcg()) CHECK_EQUAL("XRSTOR: nothing has changed", now[1], 0x1111);
  }
}

static bool supports(unsigned bit) {
  uint32_t a = 0xD, b, c = 1, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return a >> bit & 1;
}

void test_xstate(void) {
  const uint64_t cr4 = read_cr4();
  write_cr4(cr4 | kOsxsave);
  control();
  layout();
  if (!under_tcg()) initial_states(supports(0), supports(1));
  restores(supports(1));
  refusals(supports(1));
  write_cr4(cr4);
}
