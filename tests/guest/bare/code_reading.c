// Code that a device overwrites after it has run often, and while it runs (SDM vol. 3, 8.1.3 and 11.6: caches and
// instructions fetched ahead follow what others write to memory; after a serializing instruction certainly).
#include "disk.h"
#include "processors.h"

enum { kTarget = 0x400, kLoop = 0x600, kOften = 300, kRounds = 12 };

/// The target's page, and the one behind it, which an instruction goes over into; then those that call it.
static uint8_t pages[2][4096] __attribute__((aligned(4096))), callers[4096] __attribute__((aligned(4096)));
static uint8_t sector[kSectorSize] __attribute__((aligned(512)));

static void put(uint8_t* at, const uint8_t* code, unsigned size) {
  for (unsigned i = 0; i < size; ++i) ((volatile uint8_t*)at)[i] = code[i];
}
/// An instruction of one or two bytes, with its distance to a target in the next four.
static void put_relative(uint8_t* at, const uint8_t* opcode, unsigned size, const uint8_t* target) {
  put(at, opcode, size);
  const uint32_t distance = (uint32_t)(target - (at + size + 4));
  for (unsigned i = 0; i < 4; ++i) at[size + i] = (uint8_t)(distance >> 8 * i);
}

/// What the sectors hold. Each but for the last returns its constant; that one does as long as EDI is not the constant.
enum Content { kConstant, kImmediate, kSpin, kContents };
static const struct {
  uint8_t code[16], size, immediate;
} kCode[kContents] = {
    {{0xB8, 0, 0, 0, 0, 0xC3}, 6, 1},                           // mov eax, n; ret
    {{0, 0, 0, 0, 0xC3}, 5, 0},                                 // the immediate of one that began before; ret
    {{0xB8, 0, 0, 0, 0, 0x39, 0xF8, 0x75, 0xF7, 0xC3}, 10, 1},  // 1: mov eax, n; cmp eax, edi; jne 1b; ret
};
static uint64_t sector_of(enum Content content, unsigned n) {
  return content * 64U + n;
}

static bool fill_disk(void) {
  for (unsigned content = 0; content < kContents; ++content) {
    for (unsigned n = 0; n <= kRounds; ++n) {
      for (unsigned i = 0; i < kSectorSize; ++i) sector[i] = 0xCC;
      put(sector, kCode[content].code, kCode[content].size);
      sector[kCode[content].immediate] = (uint8_t)n;
      start_writing(sector_of(content, n), sector);
      if (!finish_request()) return false;
    }
  }
  return true;
}

/// Ways to the code.
static const uint8_t kCall = 0xE8, kJump = 0xE9, kJz[] = {0x0F, 0x84}, kXorEax[] = {0x31, 0xC0}, kRet = 0xC3;
static const struct Way {
  const char* what;
  enum Content content;
  uint8_t* target;
  uint64_t entry;
} kWays[] = {
    {"by a call of its address", kConstant, pages[0] + kTarget, (uint64_t)(pages[0] + kTarget)},
    {"by a jump in its page", kConstant, pages[0] + kTarget, (uint64_t)pages[0]},
    {"from above", kConstant, pages[0] + kTarget, (uint64_t)(pages[0] + kTarget - 2)},
    {"by a call from another page", kConstant, pages[0] + kTarget, (uint64_t)callers},
    {"by a jump from another page", kConstant, pages[0] + kTarget, (uint64_t)(callers + 16)},
    {"by a conditional jump from another page", kConstant, pages[0] + kTarget, (uint64_t)(callers + 32)},
    {"at another address", kConstant, pages[0] + kTarget, kWindow + 40 * 4096 + kTarget},
    {"across pages", kImmediate, pages[1], (uint64_t)(pages[1] - 1)},
    {"across pages, by a jump", kImmediate, pages[1], (uint64_t)(callers + 48)},
};
enum { kWayCount = sizeof kWays / sizeof *kWays };

static void lay_out(void) {
  put_relative(pages[0], &kJump, 1, pages[0] + kTarget);
  pages[0][kTarget - 2] = pages[0][kTarget - 1] = 0x90;
  pages[1][-1] = 0xB8;
  put_relative(callers, &kCall, 1, pages[0] + kTarget);
  callers[5] = kRet;
  put_relative(callers + 16, &kJump, 1, pages[0] + kTarget);
  put(callers + 32, kXorEax, 2);
  put_relative(callers + 34, kJz, 2, pages[0] + kTarget);
  put_relative(callers + 48, &kJump, 1, pages[1] - 1);
  window[40] = (uint64_t)pages[0] | kPresent;
  flush(kWindow + 40 * 4096);
}

static uint32_t call(uint64_t entry) {
  return ((uint32_t(*)(void))entry)();
}
static void serialize(void) {
  uint32_t a = 0, b, c = 0, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
}

/// One way after the other: the device has been through; then with calls going on until they come out otherwise.
static void one_after_the_other(void) {
  for (unsigned i = 0; i < kWayCount; ++i) {
    const struct Way* const way = &kWays[i];
    start_reading(sector_of(way->content, 0), way->target);
    CHECK_EQUAL(way->what, finish_request(), true);
    for (unsigned n = 1; n <= kRounds; ++n) {
      for (unsigned often = 0; often < kOften; ++often) {
        const uint32_t value = call(way->entry);
        if (value != n - 1) check(false, way->what, value, n - 1);
      }
      start_reading(sector_of(way->content, n), way->target);
      uint32_t value = n - 1;
      if (n % 2 == 0) {
        while (value == n - 1) value = call(way->entry);
        CHECK_EQUAL(way->what, value, n);
      }
      CHECK_EQUAL(way->what, finish_request(), true);
      serialize();
      CHECK_EQUAL(way->what, call(way->entry), n);
    }
  }
}

static volatile unsigned round_way, round_number;

/// Until it comes out as the round wants it; never as something else.
static void call_until_new(unsigned cpu) {
  const unsigned n = round_number;
  const struct Way* const way = &kWays[round_way];
  for (unsigned often = 0; often < kOften; ++often) call(way->entry);
  meet();
  if (cpu == 0) start_reading(sector_of(way->content, n), way->target);
  for (uint32_t value = n - 1; value != n;) {
    value = call(way->entry);
    if (value != n && value != n - 1) {
      check(false, way->what, value, n);
      break;
    }
  }
  if (cpu == 0) CHECK_EQUAL(way->what, finish_request(), true);
}

/// A loop that goes on until its own constant is another one: nothing in it asks for the device.
static void spin_until_new(unsigned cpu) {
  uint32_t value;
  if (cpu == 0) start_reading(sector_of(kSpin, round_number), pages[0] + kLoop);
  __asm__ volatile("call *%1" : "=a"(value) : "r"(pages[0] + kLoop), "D"(round_number) : "memory", "cc");
  if (value != round_number) check(false, "a loop overwritten", value, round_number);
  if (cpu == 0) CHECK_EQUAL("a loop overwritten", finish_request(), true);
}

/// Starts a job on one processor, or on all.
static void start(void (*job)(unsigned)) {
  if (cpu_count() == 1) {
    job(0);
  } else {
    on_all(job);
  }
}

void test_code_reading(void) {
  const bool found = find_disk();
  CHECK_EQUAL("there is a virtio disk", found, true);
  if (!found) return;
  CHECK_EQUAL("disk: written", fill_disk(), true);
  lay_out();
  one_after_the_other();
  start_processors();
  for (round_way = 0; round_way < kWayCount; ++round_way) {
    start_reading(sector_of(kWays[round_way].content, 0), kWays[round_way].target);
    CHECK_EQUAL(kWays[round_way].what, finish_request(), true);
    for (round_number = 1; round_number <= kRounds; ++round_number) start(call_until_new);
  }
  start_reading(sector_of(kSpin, 0), pages[0] + kLoop);
  CHECK_EQUAL("disk: read", finish_request(), true);
  for (round_number = 1; round_number <= kRounds; ++round_number) start(spin_until_new);
  if (cpu_count() > 1) stop_processors();
}
