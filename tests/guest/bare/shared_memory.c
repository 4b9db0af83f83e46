// What processors see of each other's memory accesses, code and translations (SDM vol. 3, 8.1, 8.2, 4.10.5).
#include "processors.h"

enum { kVector = 0x55, kEoi = 0xB0, kTimes = 2000 };

static uint8_t area[3 * 4096] __attribute__((aligned(4096)));

// --- Locked instructions, wherever their operands lie -------------------------------------------------------------

static uint8_t* place;
static unsigned way, times;

static void add_many(unsigned cpu) {
  meet();
  for (unsigned i = 0; i < times; ++i) {
    switch (way) {
      case 0:
        __asm__ volatile("lock incl (%0)" : : "r"(place) : "memory", "cc");
        break;
      case 1:
        __asm__ volatile("lock addq $1, (%0)" : : "r"(place) : "memory", "cc");
        break;
      case 2: {
        uint16_t one = 1;
        __asm__ volatile("lock xaddw %0, (%1)" : "+r"(one) : "r"(place) : "memory", "cc");
        break;
      }
      case 3: {
        uint64_t old = *(volatile uint64_t*)place;
        bool done = false;
        while (!done)
          __asm__ volatile("lock cmpxchgq %3, (%2); sete %0"
                           : "=q"(done), "+a"(old)
                           : "r"(place), "r"(old + 1)
                           : "memory", "cc");
        break;
      }
      default: {  // a spin lock of XCHG, for an ordinary increment
        for (uint32_t taken = 1; taken != 0;) {
          __asm__ volatile("xchgl %0, 64(%1)" : "+r"(taken) : "r"(place) : "memory");
          if (taken != 0) pause_once();
        }
        ++*(volatile uint32_t*)place;
        *(volatile uint32_t*)(place + 64) = 0;
        break;
      }
    }
  }
  (void)cpu;
}

static void atomicity(void) {
  times = under_tcg() ? 200 : kTimes;  // which stops the world for each that is split
  static const unsigned kOffsets[] = {0, 4, 61, 62, 63, 4093, 4094, 4095};
  for (way = 0; way < 5; ++way) {
    for (unsigned i = 0; i < sizeof kOffsets / sizeof *kOffsets; ++i) {
      place = area + kOffsets[i];
      for (unsigned at = 0; at < 80; ++at) place[at] = 0;
      on_all(add_many);
      const uint64_t sum = *(volatile uint32_t*)place & (way == 2 ? 0xFFFF : ~0U);
      const uint64_t expected = (way == 2 ? 0xFFFF : ~0U) & (4 * times);
      check(sum == expected, "locked", way << 24 | kOffsets[i] << 8 | (sum & 0xFF), expected);
    }
  }
}

/// Accesses inside 8 aligned bytes come whole.
static void tear(unsigned cpu) {
  volatile uint64_t* const word = (volatile uint64_t*)(area + 128);
  meet();
  for (unsigned i = 0; i < kTimes; ++i) {
    if (cpu < 2) {
      *word = cpu == 0 ? 0 : ~0ULL;
    } else {
      const uint64_t seen = *word;
      if (seen != 0 && seen != ~0ULL) check(false, "torn", seen, cpu);
    }
  }
}

/// Stores are seen in order; MFENCE keeps a load behind a store.
static volatile uint32_t flags[2], seen[2], data;
static void order(unsigned cpu) {
  for (unsigned i = 1; i <= 40; ++i) {
    flags[0] = flags[1] = 0;
    meet();
    if (cpu < 2) {
      flags[cpu] = i;
      __asm__ volatile("mfence" : : : "memory");
      seen[cpu] = flags[1 - cpu];
    } else if (cpu == 2) {
      data = i;
      __atomic_signal_fence(__ATOMIC_SEQ_CST);
      *(volatile uint32_t*)(area + 256) = i;
    } else {
      while (*(volatile uint32_t*)(area + 256) != i) pause_once();
      if (data != i) check(false, "order of stores", data, i);
    }
    meet();
    if (cpu == 0 && seen[0] == 0 && seen[1] == 0) check(false, "MFENCE", i, 0);
  }
}

// --- Translations -------------------------------------------------------------------------------------------------

static volatile unsigned acknowledged;
static volatile bool over;

static bool shoot(struct Frame* frame) {
  if (frame->vector != kVector) return false;
  flush(kWindow + 16 * 4096);
  *apic(kEoi) = 0;
  __atomic_fetch_add(&acknowledged, 1, __ATOMIC_SEQ_CST);
  return true;
}

/// Processor 0 maps one page or the other, tells everybody, and spoils the one that has gone.
static void shootdown(unsigned cpu) {
  volatile uint32_t* const shared = (volatile uint32_t*)(kWindow + 16 * 4096 + 512);
  if (cpu == 0) {
    window[16] = (uint64_t)area | kPresent | kWritable;
    flush(kWindow + 16 * 4096);
    *(volatile uint32_t*)(area + 512) = 1;
    over = false;
  }
  meet();
  if (cpu != 0) {
    while (!over) {
      __asm__ volatile("sti" : : : "memory");
      for (unsigned i = 0; i < 50; ++i) {
        const uint32_t value = *shared;
        if (value == 0xDEAD) check(false, "shootdown", value, cpu);
      }
    }
    __asm__ volatile("cli" : : : "memory");
    return;
  }
  for (unsigned i = 0; i < 50; ++i) {
    uint8_t* const next = area + (i % 2 == 0 ? 4096 : 0);
    uint8_t* const last = area + (i % 2 == 0 ? 0 : 4096);
    *(volatile uint32_t*)(next + 512) = i;
    window[16] = (uint64_t)next | kPresent | kWritable;
    flush(kWindow + 16 * 4096);
    acknowledged = 0;
    send_ipi(0, kOthers | kFixed | kVector);
    while (acknowledged < 3) pause_once();
    *(volatile uint32_t*)(last + 512) = 0xDEAD;
  }
  over = true;
}

// --- Code ---------------------------------------------------------------------------------------------------------

static uint8_t* code;

/// mov eax, constant; ret
static uint32_t call(void) {
  return ((uint32_t(*)(void))(uint64_t)code)();
}

/// Processor 0 counts up the constant, with whole stores; the others see it never fall, and its end.
static void count_in_code(unsigned cpu) {
  enum { kLast = 600 };
  meet();
  if (cpu == 0) {
    for (uint32_t i = 1; i <= kLast; ++i) {
      *(volatile uint32_t*)(code + 1) = i;
      if (i % 64 == 0) in8(0x80);
      const uint32_t now = call();
      if (now != i) check(false, "cross-modifying: own stores", now, i);
    }
    return;
  }
  uint32_t last = 0;
  while (last != kLast) {
    const uint32_t now = call();
    if (now < last) check(false, "cross-modifying: back in time", now, last);
    last = now;
  }
}

/// Other instructions altogether, while the others wait (SDM vol. 3, 8.1.3: flag, serializing instruction, code).
static void replace_code(unsigned cpu) {
  for (uint32_t i = 0; i < 20; ++i) {
    if (cpu == i % 4) {
      if (i % 2 == 0) {
        code[0] = 0xB8;  // mov eax, i; ret
        for (unsigned at = 0; at < 4; ++at) code[1 + at] = (uint8_t)(i >> 8 * at);
        code[5] = 0xC3;
      } else {
        code[0] = 0x31;  // xor eax, eax; mov al, i; ret
        code[1] = 0xC0;
        code[2] = 0xB0;
        code[3] = (uint8_t)i;
        code[4] = 0xC3;
      }
    }
    meet();
    uint32_t a = 0, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    const uint32_t now = call();
    if (now != i) check(false, "cross-modifying: replaced", now, i);
    meet();
  }
}

static void code_of_others(void) {
  // The constant at an aligned address; then anywhere, and across pages.
  code = area + 1023;
  code[0] = 0xB8;
  for (unsigned i = 1; i < 5; ++i) code[i] = 0;
  code[5] = 0xC3;
  if (!under_tcg()) on_all(count_in_code);  // may go on with what it has translated meanwhile
  static const unsigned kOffsets[] = {1023, 2048 + 61, 4093};
  for (unsigned i = 0; i < 3; ++i) {
    code = area + kOffsets[i];
    on_all(replace_code);
  }
}

void test_shared_memory(void) {
  start_processors();
  atomicity();
  on_all(tear);
  on_all(order);
  on_event = shoot;
  on_all(shootdown);
  code_of_others();
  check(true, "shared memory", 0, 0);
  stop_processors();
}
