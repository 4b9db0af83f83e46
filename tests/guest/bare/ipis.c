// How processors start, and reach each other (SDM vol. 3, 8.4, 10.6).
#include "processors.h"

enum { kVector = 0x54, kEoi = 0xB0, kLdr = 0xD0, kDfr = 0xE0, kTpr = 0x80 };

static volatile unsigned got[kMostCpus], nmis[kMostCpus];

static unsigned here(void) {
  return *apic(0x20) >> 24;
}

static bool event(struct Frame* frame) {
  if (frame->vector == 2) {
    __atomic_fetch_add(&nmis[here()], 1, __ATOMIC_SEQ_CST);
    return true;
  }
  if (frame->vector != kVector) return false;
  __atomic_fetch_add(&got[here()], 1, __ATOMIC_SEQ_CST);
  *apic(kEoi) = 0;
  return true;
}

/// What the sender does, and who is to receive it: a bit for each processor.
static const struct Row {
  const char* what;
  unsigned sender, destination, command;
  unsigned dfr, receivers;
  bool any_one;
} kRows[] = {
    {"IPI: to 1", 0, 1, kFixed, 0xFFFFFFFF, 2, false},
    {"IPI: from 2 to 0", 2, 0, kFixed, 0xFFFFFFFF, 1, false},
    {"IPI: to oneself by number", 3, 3, kFixed, 0xFFFFFFFF, 8, false},
    {"IPI: self", 1, 0, kFixed | kSelf, 0xFFFFFFFF, 2, false},
    {"IPI: all", 2, 0, kFixed | kAll, 0xFFFFFFFF, 15, false},
    {"IPI: all but self", 1, 0, kFixed | kOthers, 0xFFFFFFFF, 13, false},
    {"IPI: to everybody by number", 0, 0xFF, kFixed, 0xFFFFFFFF, 15, false},
    {"IPI: logical, two", 0, 0x0A, kFixed | kLogical, 0xFFFFFFFF, 10, false},
    {"IPI: logical, all", 3, 0xFF, kFixed | kLogical, 0xFFFFFFFF, 15, false},
    {"IPI: logical, nobody", 0, 0x30, kFixed | kLogical, 0xFFFFFFFF, 0, false},
    {"IPI: lowest priority", 0, 0x0F, kLowest | kLogical, 0xFFFFFFFF, 15, true},
    // Clusters of two: 0 and 1 are 01H and 02H, 2 and 3 are 11H and 12H.
    {"IPI: cluster 1", 0, 0x13, kFixed | kLogical, 0x0FFFFFFF, 12, false},
    {"IPI: one of cluster 0", 3, 0x02, kFixed | kLogical, 0x0FFFFFFF, 2, false},
    {"IPI: all clusters", 1, 0xFF, kFixed | kLogical, 0x0FFFFFFF, 15, false},
    {"IPI: NMI to 2", 0, 2, kNmiMode, 0xFFFFFFFF, 4, false},
    {"IPI: NMI to all others", 3, 0, kNmiMode | kOthers, 0xFFFFFFFF, 7, false},
};
static const struct Row* row;
static volatile bool sent;

static unsigned received(const volatile unsigned* counts) {
  unsigned mask = 0;
  for (unsigned i = 0; i < 4; ++i) mask |= counts[i] == 1 ? 1U << i : counts[i] != 0 ? 0x100 : 0;
  return mask;
}

static bool complete(void) {
  const bool nmi = (row->command & 0x700) == kNmiMode;
  const unsigned mask = received(nmi ? nmis : got);
  return row->any_one ? mask != 0 : mask == row->receivers;
}

static void receive(unsigned cpu) {
  *apic(kDfr) = row->dfr;
  *apic(kLdr) = (row->dfr == 0xFFFFFFFF ? 1U << cpu : (cpu / 2) << 4 | 1U << cpu % 2) << 24;
  meet();
  if (cpu == row->sender) {
    send_ipi(row->destination, row->command | kVector);
    sent = true;
  }
  while (!sent) pause_once();
  // Those that hear nothing get some time to hear it.
  for (unsigned i = 0; i < 200 || (!complete() && i < 100000); ++i) {
    __asm__ volatile("sti; nop; cli" : : : "memory");
    in8(0x80);
  }
}

static void destinations(void) {
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    row = &kRows[i];
    if (under_tcg() && row->dfr != 0xFFFFFFFF && row->destination == 0xFF) continue;  // knows no such broadcast
    sent = false;
    for (unsigned cpu = 0; cpu < 4; ++cpu) got[cpu] = nmis[cpu] = 0;
    on_all(receive);
    const unsigned mask = received((row->command & 0x700) == kNmiMode ? nmis : got);
    if (row->any_one) {
      check((mask & (mask - 1)) == 0 && mask != 0, row->what, mask, row->receivers);
    } else {
      CHECK_EQUAL(row->what, mask, row->receivers);
    }
  }
}

/// Sleeping processors are woken, each time; no wake-up is lost.
enum { kRounds = 60 };
static volatile unsigned turn;
static void ping_pong(unsigned cpu) {
  meet();
  for (unsigned i = 0; i < kRounds; ++i) {
    if (cpu == i % 4) {
      turn = i;
      send_ipi((cpu + 1) % 4, kFixed | kVector);
    } else if (cpu == (i + 1) % 4) {
      // One for each fourth round so far.
      while (got[cpu] < i / 4 + 1) __asm__ volatile("sti; hlt; cli" : : : "memory");
    }
    meet();
  }
}

static void as_started(unsigned cpu) {
  const uint64_t base = read_msr(0x1B);
  check((base >> 8 & 1) == (cpu == 0), "start: BSP's flag", base, cpu);
  uint64_t cr4 = read_cr4(), pat = read_msr(0x277);
  check(cr4 == 0x6A0, "start: CR4", cr4, cpu);
  check(pat == 0x0007040600070406, "start: PAT", pat, cpu);
}

void test_ipis(void) {
  extern const uint8_t trampoline[], trampoline_cr0[], trampoline_cs[];
  start_processors();
  // The first start since the reset: a later INIT keeps CD and NW as they are then. SIPI sets CS.
  CHECK_EQUAL("start: CR0", *(volatile uint32_t*)(0x8000 + (trampoline_cr0 - trampoline)), 0x60000010);
  CHECK_EQUAL("start: CS", *(volatile uint16_t*)(0x8000 + (trampoline_cs - trampoline)), 0x800);
  on_event = event;
  for (unsigned cpu = 0; cpu < 4; ++cpu) got[cpu] = 0;
  on_all(ping_pong);
  for (unsigned cpu = 0; cpu < 4; ++cpu) CHECK_EQUAL("IPI: woken each time", got[cpu], kRounds / 4);
  destinations();
  on_all(as_started);
  stop_processors();
}
