// String instructions and loops in real mode: offsets of 16 bits that wrap, 32-bit ones that do not.
#include "real_mode.h"

enum { kGp = 13 };
enum { kDirection = 0x400, kReserved1 = 2 };

CODE_16(t_movsb, "rep movsb; int $0x80");
CODE_16(t_movsw, "rep movsw; int $0x80");
CODE_16(t_movsl, "rep movsl; int $0x80");
CODE_16(t_stosb, "rep stosb; int $0x80");
CODE_16(t_stosw, "rep stosw; int $0x80");
CODE_16(t_scasb, "repne scasb; int $0x80");
CODE_16(t_cmpsb, "repe cmpsb; int $0x80");
CODE_16(t_lodsw, "rep lodsw; int $0x80");
CODE_16(t_wide, "addr32 rep movsb; int $0x80");
CODE_16(t_from_code, "mov $0x100, %si; rep movsb %cs:(%si), %es:(%di); int $0x80");
CODE_16(t_loop, "1: inc %ax; loop 1b; int $0x80");
CODE_16(t_loop_32, "1: inc %ax; addr32 loop 1b; int $0x80");

/// From DS to ES, each filled with a pattern of its own.
enum { kTo = 0x5800 };
static void fill(void) {
  for (unsigned i = 0; i < 0x10000; ++i) {
    *real_memory(kRealData, (uint16_t)i) = (uint8_t)(i * 3 + 1);
    if (i < 0x8000) *real_memory(kTo, (uint16_t)i) = 0xEE;
  }
}

static void strings(void) {
  static const struct {
    const char* what;
    const uint8_t *code, *end;
    uint32_t ecx, esi, edi;
    bool backwards;
    uint8_t vector;
    uint32_t ecx_after, esi_after, edi_after;
  } kRows[] = {
      {"REP MOVSB", t_movsb, t_movsb_end, 16, 0x100, 0x200, false, kThrough, 0, 0x110, 0x210},
      {"REP MOVSB, CX 0", t_movsb, t_movsb_end, 0, 0x100, 0x200, false, kThrough, 0, 0x100, 0x200},
      {"REP MOVSB, upper halves", t_movsb, t_movsb_end, 0x50010, 0x60100, 0x70200, false, kThrough, 0x50000, 0x60110,
       0x70210},
      {"REP MOVSB, source wraps", t_movsb, t_movsb_end, 16, 0xFFF8, 0x200, false, kThrough, 0, 8, 0x210},
      {"REP MOVSB, backwards over 0", t_movsb, t_movsb_end, 16, 8, 0x200, true, kThrough, 0, 0xFFF8, 0x1F0},
      {"REP MOVSW", t_movsw, t_movsw_end, 16, 0x100, 0x200, false, kThrough, 0, 0x120, 0x220},
      {"REP MOVSW, source wraps", t_movsw, t_movsw_end, 8, 0xFFF8, 0x200, false, kThrough, 0, 8, 0x210},
      {"REP MOVSW, source at FFFFH", t_movsw, t_movsw_end, 8, 0xFFFB, 0x200, false, kGp, 6, 0xFFFF, 0x204},
      {"REP MOVSD, source at FFFEH", t_movsl, t_movsl_end, 8, 0xFFF6, 0x200, false, kGp, 6, 0xFFFE, 0x208},
      {"REP MOVSD, backwards", t_movsl, t_movsl_end, 4, 0x100, 0x200, true, kThrough, 0, 0xF0, 0x1F0},
      {"REP STOSB", t_stosb, t_stosb_end, 5, 0, 0x7000, false, kThrough, 0, 0, 0x7005},
      {"REP STOSW, backwards", t_stosw, t_stosw_end, 5, 0, 0x7000, true, kThrough, 0, 0, 0x6FF6},
      {"REP LODSW, wraps", t_lodsw, t_lodsw_end, 5, 0xFFFC, 0, false, kThrough, 0, 6, 0},
      {"REP MOVSB, 32-bit addresses", t_wide, t_wide_end, 16, 0x100, 0x200, false, kThrough, 0, 0x110, 0x210},
      {"REP MOVSB, 32-bit addresses, beyond", t_wide, t_wide_end, 16, 0xFFF8, 0x200, false, kGp, 8, 0x10000, 0x208},
      {"REP MOVSB, 32-bit count", t_wide, t_wide_end, 0x10000, 0xFFFF, 0x7000, true, kGp, 0x8FFF, 0x8FFE, 0xFFFFFFFF},
      {"LOOP", t_loop, t_loop_end, 0x10003, 0, 0, false, kThrough, 0x10000, 0, 0},
      {"LOOP, ECX", t_loop_32, t_loop_32_end, 0x10003, 0, 0, false, kThrough, 0, 0, 0},
  };
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    if (under_tcg() && kRows[i].vector != kThrough) continue;
    fill();
    struct Real r = real_registers_at_first();
    r.es = kTo;
    r.ecx = kRows[i].ecx;
    r.esi = kRows[i].esi;
    r.edi = kRows[i].edi;
    r.flags = kReserved1 | (kRows[i].backwards ? kDirection : 0);
    const struct RealFrame frame = run_real(&r, kRows[i].code, kRows[i].end, kStart);
    CHECK_EQUAL(kRows[i].what, r.vector, kRows[i].vector);
    if (kRows[i].vector == kGp) CHECK_EQUAL(kRows[i].what, frame.ip, kStart);
    CHECK_EQUAL(kRows[i].what, r.ecx, kRows[i].ecx_after);
    CHECK_EQUAL(kRows[i].what, r.esi, kRows[i].esi_after);
    CHECK_EQUAL(kRows[i].what, r.edi, kRows[i].edi_after);
    if (kRows[i].code == t_movsb || kRows[i].code == t_movsw || kRows[i].code == t_movsl) {
      // Byte by byte what lies as far from where it ended.
      const unsigned size = kRows[i].code == t_movsb ? 1 : kRows[i].code == t_movsw ? 2 : 4;
      const unsigned moved = ((uint16_t)kRows[i].ecx - (uint16_t)kRows[i].ecx_after) * size;
      for (unsigned n = 0; n < moved; ++n) {
        const unsigned distance = kRows[i].backwards ? 0U - n + size - 1 : n;
        const uint8_t wanted = *real_memory(kRealData, (uint16_t)(kRows[i].esi + distance));
        CHECK_EQUAL(kRows[i].what, *real_memory(kTo, (uint16_t)(kRows[i].edi + distance)), wanted);
      }
    }
    if (kRows[i].code == t_loop) CHECK_EQUAL("LOOP", r.eax & 0xFFFF, 3);
    if (kRows[i].code == t_loop_32) CHECK_EQUAL("LOOP, ECX", r.eax & 0xFFFF, 3);  // for AX has wrapped once
  }
  // Found, and what ends a comparison.
  fill();
  struct Real r = real_registers_at_first();
  r.es = kRealData;
  r.ecx = 0x20;
  r.edi = 0xFFF0;
  r.eax = *real_memory(kRealData, 5);
  run_real(&r, t_scasb, t_scasb_end, kStart);
  CHECK_EQUAL("REPNE SCASB over the end", r.edi, 6);
  CHECK_EQUAL("REPNE SCASB, count", r.ecx, 0x20 - 0x16);
  for (unsigned i = 0; i < 16; ++i) *real_memory(kTo, (uint16_t)i) = *real_memory(kRealData, (uint16_t)i);
  *real_memory(kTo, 9) ^= 1;
  r = real_registers_at_first();
  r.es = kTo;
  r.ecx = 16;
  run_real(&r, t_cmpsb, t_cmpsb_end, kStart);
  CHECK_EQUAL("REPE CMPSB", r.ecx, 6);
  CHECK_EQUAL("REPE CMPSB, SI", r.esi, 10);
  r = real_registers_at_first();
  r.ecx = 4;
  r.edi = 0x200;
  run_real(&r, t_from_code, t_from_code_end, kStart);
  CHECK_EQUAL("REP MOVSB from CS", r.vector, kThrough);
  for (unsigned i = 0; i < 4; ++i) CHECK_EQUAL("REP MOVSB from CS", *real_memory(kRealData, 0x200 + i), t_from_code[i]);
}

void test_real_strings(void) {
  set_up_real_mode();
  strings();
}
