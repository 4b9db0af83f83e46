// Repeated string instructions: where faults stop them, overlapping operands, what ends them, and interrupts amid them;
// each with every size, in both directions, with addresses of 64 and of 32 bits.
#include "bare.h"

enum {
  kRw = kPresent | kWritable,
  kDirection = 0x400,
  kZf = 0x40,
  kStatus = 0x8D5,
  kPf = 14,
  kDone = 0x80,
  kEoi = 0xB0,
  kVector = 0x53
};
enum Op { kMovs, kStos, kLods, kCmps, kScas, kOps };
static const uint8_t kOpcodes[kOps] = {0xA4, 0xAA, 0xAC, 0xA6, 0xAE};
static const char* const kNames[kOps] = {"REP MOVS", "REP STOS", "REP LODS", "REP CMPS", "REP SCAS"};

/// One instruction and INT 80H.
static uint8_t code[kOps][4][2][2][16] __attribute__((aligned(64)));

static const uint8_t* instruction(enum Op op, unsigned log, bool narrow, bool while_not) {
  return code[op][log][narrow][while_not];
}

static void assemble(void) {
  for (unsigned i = 0; i < kOps * 16; ++i) {
    const unsigned op = i / 16, log = i / 4 % 4, narrow = i / 2 % 2, while_not = i % 2;
    uint8_t* at = code[op][log][narrow][while_not];
    if (narrow) *at++ = 0x67;
    *at++ = while_not ? 0xF2 : 0xF3;
    if (log == 1) *at++ = 0x66;
    if (log == 3) *at++ = 0x48;
    *at++ = kOpcodes[op] | (log != 0);
    *at++ = 0xCD;
    *at++ = kDone;
  }
}

static struct Frame frame_for(const uint8_t* at, uint64_t from, uint64_t to, uint64_t count, bool backwards) {
  struct Frame frame = supervisor_frame(at);
  frame.rsi = from;
  frame.rdi = to;
  frame.rcx = count;
  frame.rax = 0x1122334455667788;
  if (backwards) frame.rflags |= kDirection;
  return frame;
}

static bool reads_source(enum Op op) {
  return op == kMovs || op == kLods || op == kCmps;
}
static bool has_destination(enum Op op) {
  return op != kLods;
}
static bool writes(enum Op op) {
  return op == kMovs || op == kStos;
}

/// What an element does to memory, byte by byte.
static void model(enum Op op, uint8_t* to, const uint8_t* from, unsigned size) {
  uint8_t element[8];
  for (unsigned i = 0; i < size; ++i) element[i] = op == kMovs ? from[i] : (uint8_t)(0x1122334455667788 >> 8 * i);
  for (unsigned i = 0; i < size && writes(op); ++i) to[i] = element[i];
}

// --- Faults -------------------------------------------------------------------------------------------------------

/// Two pages for each operand, with absent ones around them; and what is to be in the destination's.
enum { kArena = 2 * 4096, kSourcePage = 64, kTargetPage = 72 };
#define kSource (kWindow + (kSourcePage + 1) * 4096)
#define kTarget (kWindow + (kTargetPage + 1) * 4096)
static uint8_t source[kArena] __attribute__((aligned(4096))), target[kArena] __attribute__((aligned(4096))),
    expected[kArena];

static void map_arenas(uint64_t rights) {
  for (unsigned i = 0; i < 4; ++i) {
    const bool inside = i == 1 || i == 2;
    window[kSourcePage + i] = inside ? ((uint64_t)source + (i - 1) * 4096ULL) | kRw : 0;
    window[kTargetPage + i] = inside ? ((uint64_t)target + (i - 1) * 4096ULL) | rights : 0;
    flush(kWindow + (kSourcePage + i) * 4096);
    flush(kWindow + (kTargetPage + i) * 4096);
  }
}

/// From `fine` elements before one that is `over` bytes on the absent side's near edge: the operand that faults is at
/// the arena's end or start, the other one in its middle.
static void fault_at(enum Op op, unsigned log, bool narrow, bool backwards, bool in_source, unsigned fine,
                     unsigned over) {
  enum { kMiddle = 2048 };
  const unsigned size = 1U << log;
  const int64_t step = backwards ? -(int64_t)size : (int64_t)size;
  // Of the element that faults, from the arena's start.
  const int64_t bad = backwards ? -(int64_t)size + over : (int64_t)kArena - over;
  const int64_t edge = bad - step * fine, middle = kMiddle;
  const int64_t from = in_source ? edge : middle, to = in_source ? middle : edge;
  for (unsigned i = 0; i < 640; ++i) {
    const unsigned high = kArena - 1 - i, at = kMiddle - 640 + i;
    source[i] = (uint8_t)(i * 7 + 1);
    source[high] = (uint8_t)(i * 5 + 2);
    source[at] = (uint8_t)(i * 3 + 3);
    source[at + 640] = (uint8_t)(i * 11 + 4);
    target[i] = expected[i] = target[high] = expected[high] = 0xEE;
    target[at] = expected[at] = target[at + 640] = expected[at + 640] = 0xEE;
  }
  for (unsigned i = 0; i < fine; ++i) {
    uint8_t* const out = expected + to + step * i;
    model(op, out, source + from + step * i, size);
    // As often as it has to be for comparisons to go on.
    for (unsigned byte = 0; byte < size; ++byte) {
      const uint8_t value = op == kCmps ? source[from + step * i + byte] : (uint8_t)(0x1122334455667788 >> 8 * byte);
      if (op == kCmps || op == kScas) target[to + step * i + byte] = out[byte] = value;
    }
  }
  const uint8_t* const at = instruction(op, log, narrow, false);
  const struct Frame frame = frame_for(at, kSource + from, kTarget + to, fine + 9, backwards);
  const struct Fault fault = run(&frame);
  const uint64_t where = (uint64_t)size << 56 | (uint64_t)narrow << 48 | (uint64_t)backwards << 40 |
                         (uint64_t)in_source << 32 | fine << 8 | over;
  const uint64_t bad_at = (in_source ? kSource : kTarget) + (uint64_t)bad;
  check(fault.vector == kPf, kNames[op], where, (uint64_t)fault.vector);
  check(fault.error_code == (!in_source && writes(op) ? 2 : 0), kNames[op], where, fault.error_code);
  check(fault.cr2 == (backwards ? bad_at : (in_source ? kSource : kTarget) + kArena), kNames[op], where, fault.cr2);
  check(fault.rip == (uint64_t)at, kNames[op], where, fault.rip);
  check(last_frame.rcx == 9, kNames[op], where, last_frame.rcx);
  check(last_frame.rsi == frame.rsi + (reads_source(op) ? (uint64_t)step * fine : 0), kNames[op], where,
        last_frame.rsi);
  check(last_frame.rdi == frame.rdi + (has_destination(op) ? (uint64_t)step * fine : 0), kNames[op], where,
        last_frame.rdi);
  unsigned different = 0;
  for (unsigned i = 0; i < 640; ++i) {
    const unsigned middle_at = kMiddle - 640 + 2 * i;
    different += target[i] != expected[i];
    different += target[kArena - 1 - i] != expected[kArena - 1 - i];
    different += target[middle_at] != expected[middle_at] || target[middle_at + 1] != expected[middle_at + 1];
  }
  check(different == 0, kNames[op], where, different);
}

static void faults(void) {
  static const unsigned kFine[] = {0, 1, 3, 70};
  map_arenas(kRw);
  for (unsigned i = 0; i < kOps * 32; ++i) {
    const enum Op op = (enum Op)(i / 32);
    const unsigned log = i / 8 % 4, size = 1U << log;
    const bool narrow = i & 4, backwards = i & 2, in_source = i & 1;
    if (in_source ? !reads_source(op) : !has_destination(op)) continue;
    for (unsigned n = 0; n < 4; ++n) {
      fault_at(op, log, narrow, backwards, in_source, kFine[n], 0);
      if (size > 1) fault_at(op, log, narrow, backwards, in_source, kFine[n], 1);
      if (size > 2) fault_at(op, log, narrow, backwards, in_source, kFine[n], size - 1);
    }
  }
  // Into a page that is there, but not to be written; nothing is, and reading goes on up to it.
  map_arenas(kPresent);
  for (unsigned log = 0; log < 4; ++log) {
    for (enum Op op = kMovs; op <= kStos; ++op) {
      const struct Frame frame = frame_for(instruction(op, log, false, false), kSource, kTarget + 64, 5, false);
      const struct Fault fault = run(&frame);
      CHECK_EQUAL("REP, read-only: vector", fault.vector, kPf);
      CHECK_EQUAL("REP, read-only: error code", fault.error_code, 3);
      CHECK_EQUAL("REP, read-only: CR2", fault.cr2, kTarget + 64);
      CHECK_EQUAL("REP, read-only: RCX", last_frame.rcx, 5);
      CHECK_EQUAL("REP, read-only: RSI", last_frame.rsi, kSource);
    }
  }
  // Nothing is touched when nothing is to be done.
  for (unsigned i = 0; i < kOps * 4; ++i) {
    const struct Frame frame = frame_for(instruction((enum Op)(i / 4), i % 4, false, false), 1ULL << 63, 5, 0, false);
    CHECK_EQUAL("REP, count 0", run(&frame).vector, kDone);
    CHECK_EQUAL("REP, count 0: RDI", last_frame.rdi, 5);
    const struct Frame narrow = frame_for(instruction((enum Op)(i / 4), i % 4, true, false), 5, 5, 1ULL << 32, false);
    CHECK_EQUAL("REP, count 0 of 32 bits", run(&narrow).vector, kDone);
  }
}

// --- Overlaps, and several pages ----------------------------------------------------------------------------------

static uint8_t moved[4 * 4096] __attribute__((aligned(4096)));
static uint8_t simulated[4 * 4096];

static void move(unsigned log, bool narrow, bool backwards, unsigned from, unsigned to, unsigned count) {
  const unsigned size = 1U << log;
  const unsigned reach = count * size + 16, least = from < to ? from : to, most = from < to ? to : from;
  const unsigned first = least < reach ? 0 : least - reach;
  const unsigned end = most + reach > sizeof moved ? sizeof moved : most + reach;
  for (unsigned i = first; i < end; ++i) moved[i] = simulated[i] = (uint8_t)(i * 13 + (i >> 8));
  for (unsigned i = 0; i < count; ++i) {
    const int64_t distance = backwards ? -(int64_t)(size * i) : (int64_t)(size * i);
    model(kMovs, simulated + to + distance, simulated + from + distance, size);
  }
  struct Frame frame = frame_for(instruction(kMovs, log, narrow, false), (uint64_t)(moved + from),
                                 (uint64_t)(moved + to), count, backwards);
  const uint64_t flags = to & 1 ? kStatus : 0;
  frame.rflags |= flags;
  const uint64_t where = (uint64_t)size << 48 | (uint64_t)backwards << 40 | (uint64_t)from << 16 | to;
  check(run(&frame).vector == kDone, "REP MOVS, overlapping", where, (uint64_t)last_frame.vector);
  check(last_frame.rcx == 0, "REP MOVS, overlapping: RCX", where, last_frame.rcx);
  check((last_frame.rflags & kStatus) == flags, "REP MOVS: flags", last_frame.rflags, flags);
  unsigned different = 0;
  for (unsigned i = first; i < end; ++i) different += moved[i] != simulated[i];
  check(different == 0, "REP MOVS, overlapping", where, different);
}

static void overlaps(void) {
  static const int kDistances[] = {0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 31, 33, 63, 64, 65};
  for (unsigned log = 0; log < 4; ++log) {
    for (unsigned i = 0; i < 2 * sizeof kDistances / sizeof *kDistances; ++i) {
      const int distance = i % 2 ? -kDistances[i / 2] : kDistances[i / 2];
      // About the edge of two pages.
      move(log, false, i % 4 < 2, 4096 - 50, (unsigned)(4096 - 50 + distance), 20);
      move(log, false, i % 4 >= 2, 4096 + 20, (unsigned)(4096 + 20 + distance), 16);
    }
    const unsigned size = 1U << log;
    for (unsigned i = 0; i < 8; ++i) {
      const bool narrow = i & 1, backwards = i & 2, apart = i & 4;
      const unsigned count = 6000 / size, start = backwards ? 8000 : 1;
      move(log, narrow, backwards, start + 3, start + (apart ? 8190 : 1), count);
      move(log, narrow, backwards, start + (apart ? 8190 : 1), start + 3, count);
    }
  }
}

// --- What ends comparisons ----------------------------------------------------------------------------------------

static void comparisons(void) {
  for (unsigned i = 0; i < 64; ++i) {
    const enum Op op = i & 1 ? kCmps : kScas;
    const bool while_not = i & 2, backwards = i & 4, narrow = i & 8;
    const unsigned log = i / 16, size = 1U << log, stop = 11;
    for (unsigned n = 0; n < 16 * size; ++n) {
      const uint8_t same = op == kCmps ? (uint8_t)(n * 3) : (uint8_t)(0x1122334455667788 >> 8 * (n % size));
      source[n] = op == kCmps ? (uint8_t)(n * 3) : 0;
      target[n] = while_not ? (uint8_t)~same : same;
    }
    // The element that ends it, by its last byte alone.
    const unsigned element = backwards ? 15 - stop : stop;
    for (unsigned byte = 0; byte < size; ++byte) {
      uint8_t* const at = target + element * size + byte;
      if (while_not || byte == size - 1) *at = (uint8_t) ~*at;
    }
    const unsigned start = backwards ? 15 * size : 0;
    const struct Frame frame = frame_for(instruction(op, log, narrow, while_not), (uint64_t)(source + start),
                                         (uint64_t)(target + start), 16, backwards);
    CHECK_EQUAL(kNames[op], run(&frame).vector, kDone);
    CHECK_EQUAL(kNames[op], last_frame.rcx, 16 - stop - 1);
    CHECK_EQUAL(kNames[op], last_frame.rflags & kZf, while_not ? kZf : 0);
    const uint64_t distance = (backwards ? -1ULL : 1ULL) * size * (stop + 1);
    CHECK_EQUAL(kNames[op], last_frame.rdi, frame.rdi + distance);
    CHECK_EQUAL(kNames[op], last_frame.rsi, frame.rsi + (op == kCmps ? distance : 0));
    // Flags are nobody's without an iteration.
    struct Frame none = frame;
    none.rcx = 0;
    none.rflags |= kStatus;
    run(&none);
    CHECK_EQUAL("REPE, count 0: flags", last_frame.rflags & kStatus, kStatus);
  }
  const struct Frame frame = frame_for(instruction(kLods, 2, false, false), (uint64_t)source, 0, 3, false);
  for (unsigned i = 0; i < 12; ++i) source[i] = (uint8_t)(0xF0 + i);
  run(&frame);
  CHECK_EQUAL("REP LODS: the last one", last_frame.rax, 0xFBFAF9F8);
}

void test_strings(void) {
  assemble();
  faults();
  overlaps();
  comparisons();
}

// --- Interrupts ---------------------------------------------------------------------------------------------------

enum { kLarge = 131072 };
static uint8_t large_source[kLarge] __attribute__((aligned(4096))), large_target[kLarge] __attribute__((aligned(4096)));
static volatile unsigned partly;
static uint64_t amid, whole;

static bool tick(struct Frame* frame) {
  if (frame->vector != kVector) return false;
  if (frame->rip == amid && frame->rcx != 0 && frame->rcx != whole) ++partly;
  *apic(kEoi) = 0;
  return true;
}

/// A timer strikes while they are under way: they go on where they were.
void test_strings_interrupted(void) {
  assemble();
  on_event = tick;
  *apic(0xF0) = 0x1FF;
  *apic(0x80) = 0;
  *apic(0x3E0) = 0xB;
  *apic(0x320) = kVector;
  unsigned total = 0;
  for (unsigned i = 0; i < kOps * 8; ++i) {
    const enum Op op = (enum Op)(i / 8);
    const unsigned log = i / 2 % 4, size = 1U << log;
    const bool backwards = i & 1;
    for (unsigned n = 0; n < kLarge; ++n) {
      large_source[n] = op == kScas ? (uint8_t)(0x1122334455667788 >> 8 * (n % size)) : (uint8_t)(n * 7 + (n >> 9));
      large_target[n] = op == kCmps || op == kScas ? large_source[n] : 0;
    }
    const uint8_t* const at = instruction(op, log, false, false);
    const uint64_t start = backwards ? kLarge - size : 0, end = backwards ? -(uint64_t)size : kLarge;
    struct Frame frame =
        frame_for(at, (uint64_t)large_source + start, (uint64_t)large_target + start, kLarge / size, backwards);
    frame.rflags |= 0x200;
    amid = (uint64_t)at;
    whole = frame.rcx;
    partly = 0;
    for (unsigned round = 0; round < 40 && partly < 2; ++round) {
      *apic(0x380) = 2000 + 1500 * round;
      check(run(&frame).vector == kDone, kNames[op], i, (uint64_t)last_frame.vector);
      check(last_frame.rcx == 0, "interrupted: RCX", i, last_frame.rcx);
      if (reads_source(op))
        check(last_frame.rsi == (uint64_t)large_source + end, "interrupted: RSI", i, last_frame.rsi);
      if (has_destination(op))
        check(last_frame.rdi == (uint64_t)large_target + end, "interrupted: RDI", i, last_frame.rdi);
    }
    total += partly;
    unsigned different = 0;
    for (unsigned n = 0; n < kLarge && writes(op); ++n) {
      const uint8_t stored = (uint8_t)(0x1122334455667788 >> 8 * (n % size));
      different += large_target[n] != (op == kMovs ? large_source[n] : stored);
    }
    check(different == 0, "interrupted: memory", i, different);
  }
  *apic(0x380) = 0;
  *apic(0x320) = 0x10000;
  check(total != 0, "interrupted: never", total, 1);
}
